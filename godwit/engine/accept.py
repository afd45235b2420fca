"""From sampled tokens to deltas: which of them count, where the output ends and why, and what is told of it."""

from collections.abc import Sequence

from godwit.engine.outputs import Delta, FinishReason, TokenLogprob
from godwit.engine.request import Choice


def accept(
    choice: Choice, tokens: Sequence[int], logprobs: Sequence[TokenLogprob | None], *, weight_version: int
) -> Delta:
    """Take sampled tokens up to the first that ends the choice."""
    request, params = choice.request, choice.request.params
    texts: list[str] = []
    reason: FinishReason | None = None
    stop_reason: int | str | None = None
    taken = 0
    while reason is None and taken < len(tokens):
        token = tokens[taken]
        taken += 1
        choice.token_ids.append(token)
        if choice.matcher is not None:
            choice.matcher.accept(token)
        if token in request.stop_ids:
            reason, stop_reason = "stop", token if request.stop_ids[token] else None
            if not params.include_stop_str_in_output:
                break
        text, stop = choice.text.add(token, may_stop=choice.num_output >= params.min_tokens)
        texts.append(text)
        if reason is not None:
            break
        if stop is not None:
            reason, stop_reason = "stop", stop
        elif choice.matcher is not None and choice.matcher.done:
            reason = "stop"
        elif len(choice.token_ids) >= request.max_length:
            reason = "length"
    if reason is not None and not isinstance(stop_reason, str):
        # The last bytes may be half a character, and that character may complete a stop string.
        text, stop = choice.text.finish()
        texts.append(text)
        if stop is not None:
            reason, stop_reason = "stop", stop
    entries = [entry for entry in logprobs[:taken] if entry is not None]
    return delta(choice, tokens[:taken], "".join(texts), entries, reason, stop_reason, weight_version=weight_version)


def abort(choice: Choice) -> Delta:
    """The last delta of a choice that was cancelled: what was held back of its text."""
    return delta(choice, (), choice.text.finish()[0], (), "abort", None, weight_version=0)


def delta(
    choice: Choice,
    tokens: Sequence[int],
    text: str,
    logprobs: Sequence[TokenLogprob],
    reason: FinishReason | None,
    stop_reason: int | str | None,
    *,
    weight_version: int,
) -> Delta:
    """What was added to a choice, whose `token_ids` have the tokens already."""
    request = choice.request
    told = request.params.prompt_logprobs is not None and choice.num_output == len(tokens)
    return Delta(
        request.request_id,
        choice.index,
        tuple(tokens),
        text,
        tuple(logprobs),
        (weight_version,) * len(tokens),
        reason,
        stop_reason,
        len(request.prompt_ids),
        choice.num_cached,
        tuple(choice.prompt_logprobs) if told else None,
    )
