"""What the engine knows of a request, and of each of its choices while it runs. Values only; who fills what is said."""

from dataclasses import dataclass, field

from godwit.engine.grammar import Matcher
from godwit.engine.outputs import TokenLogprob
from godwit.engine.params import SamplingParams
from godwit.engine.text import OutputText
from godwit.nn.pages import Sequence


@dataclass(frozen=True, eq=False)
class Request:
    """As it was asked for.

    Attributes:
        max_length: tokens at which it ends, prompt included.
        stop_ids: token -> whether it is of `stop_token_ids` (its reason) or one of the model's end tokens.
        order: place in line: priority (lower goes first), then arrival.
    """

    request_id: str
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    max_length: int
    stop_ids: dict[int, bool]
    order: tuple[int, int]


@dataclass(eq=False)
class Choice:
    """One continuation of a request.

    Attributes:
        token_ids: prompt and output.
        seed: its draws depend on this and on how many tokens it has.
        sequence: its pages; None while it waits. The scheduler's.
        drafts: tokens that the prediction layer proposes behind `token_ids`. The runner's.
        num_cached: prompt tokens that came from the prefix cache at its first start. The scheduler's.
        started: it has run before (a second start is after a preemption). The scheduler's.
        pure: all its tokens in the cache were computed with the weights in use. The scheduler's and the engine's.
        prompt_logprobs: filled while the prompt is computed, told with the first token. The engine's.
    """

    request: Request
    index: int
    seed: int
    text: OutputText
    matcher: Matcher | None
    token_ids: list[int]
    sequence: Sequence | None = None
    drafts: list[int] = field(default_factory=list)
    num_cached: int = 0
    started: bool = False
    pure: bool = True
    prompt_logprobs: list[TokenLogprob | None] = field(default_factory=list)

    @property
    def order(self) -> tuple[int, int, int]:
        """Place in line."""
        return (*self.request.order, self.index)

    @property
    def num_computed(self) -> int:
        """Tokens in the cache."""
        return 0 if self.sequence is None else self.sequence.length

    @property
    def num_left(self) -> int:
        """Tokens to compute before the next one can be sampled."""
        return len(self.token_ids) - self.num_computed

    @property
    def num_output(self) -> int:
        """Tokens sampled so far."""
        return len(self.token_ids) - len(self.request.prompt_ids)
