"""The rows of a step that are sampled at: one behind a choice's last token, one behind each of its drafts."""

from torch import Tensor

from godwit.engine.grammar import GrammarCompiler, apply_mask
from godwit.engine.sampler import Row
from godwit.engine.scheduler import Work


def rows_of(work: Work) -> list[Row]:
    """The rows of one choice."""
    choice, params = work.choice, work.choice.request.params
    num_prompt, num_output = len(choice.request.prompt_ids), choice.num_output
    rows = []
    for place in range(num_output, num_output + 1 + work.num_drafts):
        rows.append(
            Row(
                params,
                choice.seed,
                place,
                # Choices with penalties have no drafts, so this is all that stands before the row.
                prompt_ids=choice.request.prompt_ids if params.penalised else (),
                output_ids=choice.token_ids[num_prompt:] if params.penalised else (),
                banned_ids=tuple(choice.request.stop_ids) if place < params.min_tokens else (),
            )
        )
    return rows


def mask(logits_RV: Tensor, works: list[Work], grammars: GrammarCompiler) -> None:
    """Forbid in place what grammars do not allow. Their choices have no drafts, so a work is a row."""
    row, numbers, matchers = 0, [], []
    for work in works:
        if work.choice.matcher is not None:
            numbers.append(row)
            matchers.append(work.choice.matcher)
        row += 1 + work.num_drafts
    if not matchers:
        return
    mask_RW = grammars.new_mask(row)
    for number, matcher in zip(numbers, matchers, strict=True):
        matcher.fill(mask_RW, number)
    apply_mask(logits_RV, mask_RW, numbers)
