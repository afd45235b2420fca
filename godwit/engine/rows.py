"""The rows of a step that are sampled at: one behind a choice's last token, one behind each of its drafts.

Letters: R rows, W rows that want log-probabilities, V vocabulary.
"""

import torch
from torch import Tensor

from godwit.engine.grammar import GrammarCompiler, apply_mask
from godwit.engine.outputs import TokenLogprob
from godwit.engine.sampler import Row, logprobs_of, sample
from godwit.engine.scheduler import Work


def sample_all(
    logits_RV: Tensor, works: list[Work], grammars: GrammarCompiler
) -> tuple[list[int], list[TokenLogprob | None]]:
    """Tokens of all rows, works in order, and log-probabilities of those that want them (the model's own)."""
    logits_RV = logits_RV.float()
    rows = [row for work in works for row in _rows(work)]
    wanting = [number for number, row in enumerate(rows) if row.params.logprobs is not None]
    # A copy: masks, bias and penalties change the logits in place.
    raw_WV = logits_RV[torch.tensor(wanting, device=logits_RV.device)] if wanting else None
    _mask(logits_RV, works, grammars)
    tokens = sample(logits_RV, rows)
    logprobs: list[TokenLogprob | None] = [None] * len(rows)
    if raw_WV is not None:
        tops = [rows[number].params.logprobs or 0 for number in wanting]
        for number, entry in zip(wanting, logprobs_of(raw_WV, [tokens[at] for at in wanting], tops), strict=True):
            logprobs[number] = entry
    return tokens, logprobs


def _rows(work: Work) -> list[Row]:
    choice, params = work.choice, work.choice.request.params
    num_prompt, num_output = len(choice.request.prompt_ids), choice.num_output
    return [
        Row(
            params,
            choice.seed,
            place,
            # Choices with penalties have no drafts, so this is all that stands before the row.
            prompt_ids=choice.request.prompt_ids if params.penalised else (),
            output_ids=choice.token_ids[num_prompt:] if params.penalised else (),
            banned_ids=tuple(choice.request.stop_ids) if place < params.min_tokens else (),
        )
        for place in range(num_output, num_output + 1 + work.num_drafts)
    ]


def _mask(logits_RV: Tensor, works: list[Work], grammars: GrammarCompiler) -> None:
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
