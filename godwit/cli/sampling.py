"""Options of the verbs that generate, and the line that says how fast it went."""

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from godwit.base.seeds import derive_seed
from godwit.cli.targets import model_folder

if TYPE_CHECKING:
    from godwit.engine.llm import LLM
    from godwit.engine.params import SamplingParams


@dataclass(frozen=True)
class SamplingOptions:
    """How tokens are chosen, and how the engine runs."""

    temperature: float = 1.0
    """0 takes the likeliest token each time"""
    top_p: float = 1.0
    """sample from the likeliest tokens that together hold this probability"""
    top_k: int = 0
    """sample from so many likeliest tokens; 0 from all"""
    min_p: float = 0.0
    """leave out tokens less likely than this part of the likeliest one's probability"""
    repetition_penalty: float = 1.0
    """above 1 makes tokens that were there before less likely"""
    seed: int = 0
    """same seed, same text"""
    ignore_eos: bool = False
    """go on where the model would end, up to the number of tokens"""
    plan: str | None = None
    """which layers run their own indexer, e.g. FSSSFSSS or 1/4; the model's own if not given"""
    speculate: int = 0
    """tokens that the prediction layer drafts a step, if the model has one; the text stays the same"""

    def params(self, *names: str | int, **values: Any) -> "SamplingParams":
        """Sampling parameters for the use called `names`, which has draws of its own."""
        from godwit.engine.params import SamplingParams

        return SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=derive_seed(self.seed, *names),
            ignore_eos=self.ignore_eos,
            **values,
        )

    def load(self, model: str) -> "LLM":
        """The model with its engine."""
        from godwit.engine.llm import LLM

        return LLM(model_folder(model), plan=self.plan, speculate=self.speculate)


class Stopwatch:
    """Counts tokens from its making on and says on stderr how fast they came."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._first: float | None = None
        self.num_tokens = 0

    def count(self, num_tokens: int) -> None:
        """So many more tokens have come."""
        if self._first is None and num_tokens:
            self._first = time.perf_counter()
        self.num_tokens += num_tokens

    def say(self) -> None:
        """The line; nothing if no token came."""
        if self._first is not None:
            now, first = time.perf_counter(), self._first - self._start
            rate = self.num_tokens / (now - self._start)
            print(f"[{self.num_tokens} tokens, {rate:.0f} tokens/s, first after {first:.2f} s]", file=sys.stderr)
