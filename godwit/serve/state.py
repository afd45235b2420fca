"""What all requests share: the engine, the model's words, and how many are at work."""

import time
from dataclasses import dataclass, field

from godwit import __version__
from godwit.engine.async_engine import AsyncEngine
from godwit.serve.config import ServeConfig
from godwit.serve.errors import ApiError
from godwit.serve.metrics import Metrics
from godwit.serve.prompts import ChatFormat
from godwit.text.tokenizer import Tokenizer

SHORTEST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds that Retry-After may say


@dataclass(kw_only=True, eq=False)
class ServerState:
    """One server.

    Attributes:
        engine: runs in a thread of its own.
        chat: the model's template.
        draining: no new requests are taken; those at work may finish.
        num_choices: outputs that are asked of the engine and not finished.
    """

    config: ServeConfig
    engine: AsyncEngine
    tokenizer: Tokenizer
    chat: ChatFormat
    metrics: Metrics = field(default_factory=Metrics)
    started: float = field(default_factory=time.time)
    draining: bool = False
    num_choices: int = 0
    _mean_seconds: float = 1.0

    @property
    def max_model_len(self) -> int:
        """Prompt and output together."""
        return self.engine.engine.max_model_len

    @property
    def weight_version(self) -> int:
        """Of the weights that new tokens are sampled from."""
        return self.engine.engine.weight_version

    @property
    def fingerprint(self) -> str:
        """OpenAI's `system_fingerprint`: program and weights."""
        return f"godwit-{__version__}-w{self.weight_version}"

    def enter(self, num_choices: int) -> None:
        """Take a request's choices in.

        Raises:
            ApiError: there is no place for them now.
        """
        if not self.engine.alive:
            raise ApiError(
                "the engine has stopped; the server's log says why, start it again",
                status=503, kind="server_error", code="engine_stopped",
            )  # fmt: skip
        if self.draining:
            raise ApiError(
                "the server is shutting down; ask another one, or this one when it is back",
                status=503, kind="server_error", code="shutting_down", retry_after=self.config.drain_seconds,
            )  # fmt: skip
        room = self.engine.engine.config.max_num_seqs + self.config.max_queue
        if self.num_choices + num_choices > room:
            raise ApiError(
                f"{self.num_choices} choices are running or waiting and there is room for {room}; try again later",
                status=429, kind="rate_limit_error", code="queue_full", retry_after=self._wait(),
            )  # fmt: skip
        self.num_choices += num_choices

    def leave(self, num_choices: int, seconds: float) -> None:
        """Let them go; `seconds` is how long the request took."""
        self.num_choices -= num_choices
        self._mean_seconds += 0.2 * (seconds - self._mean_seconds)

    def _wait(self) -> float:
        """Seconds until some have finished, as far as the last ones tell."""
        return min(LONGEST_WAIT, max(SHORTEST_WAIT, self._mean_seconds / 2))
