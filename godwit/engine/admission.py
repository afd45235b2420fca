"""What makes a request one the engine can do: checked when it is added, before anything is kept of it."""

from collections.abc import Sequence

from godwit.base.errors import GodwitError
from godwit.engine.params import SamplingParams


def check(
    prompt_ids: Sequence[int], params: SamplingParams, *, max_model_len: int, vocab_size: int, eos: Sequence[int]
) -> None:
    """Refuse what does not fit the model or the engine.

    Raises:
        GodwitError: an empty or too long prompt, tokens outside the vocabulary, or wishes that exclude each other.
    """
    if not prompt_ids:
        raise GodwitError("the prompt is empty; give at least one token, e.g. the end-of-text token")
    if len(prompt_ids) >= max_model_len:
        raise GodwitError(
            f"the prompt has {len(prompt_ids)} tokens and this engine takes {max_model_len} with the output; "
            f"shorten it to {max_model_len - 1} or less, or raise max_model_len or num_pages"
        )
    for name, ids in (
        ("the prompt", prompt_ids),
        ("stop_token_ids", params.stop_token_ids),
        ("logit_bias", tuple(params.logit_bias)),
    ):
        if ids and not 0 <= min(ids) <= max(ids) < vocab_size:
            wrong = next(one for one in ids if not 0 <= one < vocab_size)
            raise GodwitError(f"{name} has token {wrong}; this model's vocabulary is 0 to {vocab_size - 1}")
    if params.grammar is not None and params.min_tokens:
        raise GodwitError("min_tokens and a grammar cannot both say when the output may end; leave min_tokens out")
    if params.min_tokens and len({*params.stop_token_ids, *eos}) >= vocab_size:
        raise GodwitError("stop_token_ids has all tokens, so min_tokens leaves none to choose from; give fewer")
