"""How a request is to be continued. Names, defaults and meanings are vLLM's `SamplingParams`.

Does not: know a model. What only a model can say (is this id in the vocabulary?) is checked when a request is added.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from godwit.base.errors import GodwitError
from godwit.engine.grammar import Grammar

# Choices of one request; top tokens of one position. Beyond, an answer is larger than anyone reads.
MAX_N = 128
MAX_LOGPROBS = 64
# Sampling rows hold the seed in 63 bits.
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class SamplingParams:
    """Values of one request.

    Attributes:
        n: independent continuations.
        max_tokens: new tokens at most; None: as many as fit the model.
        min_tokens: no end token (eos or `stop_token_ids`) before so many.
        temperature: 0 takes the likeliest token, the lower id of equals.
        top_p, top_k, min_p: keep the likeliest tokens: their probability together, their number (0: all), their
            probability relative to the likeliest one's.
        presence_penalty, frequency_penalty: taken from the logits of tokens in the output, once and per occurrence.
        repetition_penalty: divides positive and multiplies negative logits of tokens in prompt or output.
        stop: texts that end the output; not part of it unless `include_stop_str_in_output`.
        stop_token_ids: ids that end it.
        ignore_eos: go on behind the model's end tokens.
        seed: same seed, same draws, whatever else runs; None: a fresh one.
        logprobs: log-probabilities of this many likeliest tokens and of the sampled one at each place (0: only that).
            They are the model's own, before temperature, penalties and cuts.
        prompt_logprobs: the same for the prompt's tokens.
        logit_bias: added to logits, by id.
        skip_special_tokens: leave roles and end of text out of the text.
        grammar: what the output must match.

    Raises:
        GodwitError: a value outside its range.
    """

    n: int = 1
    max_tokens: int | None = 16
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    seed: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    skip_special_tokens: bool = True
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        object.__setattr__(self, "stop", stop)
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        _whole("n", self.n, 1, MAX_N)
        if self.max_tokens is not None:
            _whole("max_tokens", self.max_tokens, 1, None)
        _whole("min_tokens", self.min_tokens, 0, self.max_tokens)
        _real("temperature", self.temperature, 0, 100)
        _real("top_p", self.top_p, 0, 1, above=True)
        if self.top_k != -1:  # vLLM's other spelling of "all"
            _whole("top_k", self.top_k, 0, None)
        _real("min_p", self.min_p, 0, 1)
        _real("presence_penalty", self.presence_penalty, -2, 2)
        _real("frequency_penalty", self.frequency_penalty, -2, 2)
        _real("repetition_penalty", self.repetition_penalty, 0, 100, above=True)
        if self.seed is not None:
            _whole("seed", self.seed, -MAX_SEED - 1, MAX_SEED)
        for name in ("logprobs", "prompt_logprobs"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name), 0, MAX_LOGPROBS)
        if any(not isinstance(text, str) or not text for text in stop):
            raise GodwitError(f"stop is {list(self.stop)!r}; give texts of one character or more")
        for token_id in (*self.stop_token_ids, *self.logit_bias):
            _whole("token id", token_id, 0, None)
        for value in self.logit_bias.values():
            _real("logit_bias", value, -100, 100)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken: nothing is drawn."""
        return self.temperature == 0

    @property
    def penalised(self) -> bool:
        """Whether logits depend on the tokens before."""
        return (self.presence_penalty, self.frequency_penalty, self.repetition_penalty) != (0, 0, 1)


def _whole(name: str, value: object, low: int, high: int | None) -> None:
    allowed = f"{low} or more" if high is None else f"{low} to {high}"
    right = isinstance(value, int) and not isinstance(value, bool) and value >= low and (high is None or value <= high)
    if not right:
        raise GodwitError(f"{name} is {value!r}; give a whole number, {allowed}")


def _real(name: str, value: object, low: float, high: float, *, above: bool = False) -> None:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not low <= number <= high or (above and number == low):
        raise GodwitError(f"{name} is {value!r}; give a number {'above' if above else 'from'} {low} up to {high}")
