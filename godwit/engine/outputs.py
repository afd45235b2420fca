"""What comes out of the engine: deltas while a request runs, whole outputs at its end, and the engine's counts."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

FinishReason = Literal["stop", "length", "abort"]


class TokenLogprob(NamedTuple):
    """Log-probability of a token, and of the likeliest ones at its place as (id, log-probability), best first."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Delta:
    """What one step of the engine adds to one choice of one request.

    Attributes:
        request_id, index: which request, and which of its `n` choices.
        token_ids: new tokens, end tokens included.
        text: new text. It lags behind the tokens where they cut a character or may begin a stop string.
        logprobs: one for each token if asked for, else empty.
        weight_versions: one for each token: which weights it was sampled from.
        finish_reason: None while it goes on. "stop": an end token or a stop string; "length": `max_tokens` or the
            model's length; "abort": cancelled.
        stop_reason: the stop string or the id of `stop_token_ids`; None for the model's own end tokens.
        num_prompt_tokens: of the request.
        num_cached_tokens: how many of them came from the prefix cache.
        prompt_logprobs: on the first delta, if asked for: one for each prompt token, None for the first.
    """

    request_id: str
    index: int
    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprob, ...]
    weight_versions: tuple[int, ...]
    finish_reason: FinishReason | None
    stop_reason: int | str | None
    num_prompt_tokens: int
    num_cached_tokens: int
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None


@dataclass(frozen=True)
class CompletionOutput:
    """One finished choice."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]
    weight_versions: tuple[int, ...]
    finish_reason: FinishReason
    stop_reason: int | str | None

    @property
    def cumulative_logprob(self) -> float:
        """Sum over its tokens; 0 where none were asked for."""
        return sum(entry.logprob for entry in self.logprobs)


@dataclass(frozen=True)
class RequestOutput:
    """A finished request: its prompt (None where token ids were given) and its choices in order."""

    request_id: str
    prompt: str | None
    prompt_token_ids: tuple[int, ...]
    outputs: tuple[CompletionOutput, ...]
    num_cached_tokens: int
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None


@dataclass(frozen=True)
class EngineStats:
    """Counts since the engine was made, and what is there now.

    Attributes:
        num_running, num_waiting: choices now.
        num_pages, num_free_pages: of the cache; pages that only the prefix cache holds count as free.
        prefix_hit_tokens, prefix_query_tokens: prompt tokens found in the prefix cache, and looked for.
        drafts_proposed, drafts_accepted: tokens of the prediction layer.
        prompt_tokens, generated_tokens: computed (not from the prefix cache), sampled.
        preemptions: choices that gave their pages up and were computed again.
        num_steps: steps that ran the model.
        step_seconds, model_seconds, sample_seconds: all of the steps; the decoder's part; the sampler's part.
        weight_version: of the weights in use.
    """

    num_running: int
    num_waiting: int
    num_pages: int
    num_free_pages: int
    prefix_hit_tokens: int
    prefix_query_tokens: int
    drafts_proposed: int
    drafts_accepted: int
    prompt_tokens: int
    generated_tokens: int
    preemptions: int
    num_steps: int
    step_seconds: float
    model_seconds: float
    sample_seconds: float
    weight_version: int
