"""What all requests share: the engine, the model's words, and how many are at work."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
    _closes: float | None = None
    _limits: set[asyncio.Timeout] = field(default_factory=set)

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
            raise self.shutting_down()
        room = self.engine.engine.config.max_num_seqs + self.config.max_queue
        if self.num_choices + num_choices > room:
            raise ApiError(
                f"{self.num_choices} choices are running or waiting and there is room for {room}; try again later",
                status=429, kind="rate_limit_error", code="queue_full", retry_after=self._wait(),
            )  # fmt: skip
        self.num_choices += num_choices

    def shutting_down(self) -> ApiError:
        """What those are told who come now, and those whose answers are not whole when it closes."""
        return ApiError(
            "the server is shutting down; ask another one, or this one when it is back",
            status=503, kind="server_error", code="shutting_down", retry_after=self.config.drain_seconds,
        )  # fmt: skip

    def drain(self) -> None:
        """Take nothing more, and close in `drain_seconds`; to be called in the event loop."""
        self.draining = True
        if self._closes is None:
            self._closes = asyncio.get_running_loop().time() + self.config.drain_seconds
            for limit in self._limits:
                if not limit.expired():
                    limit.reschedule(min(self._closes, limit.when() or self._closes))

    @property
    def closed(self) -> bool:
        """Whether the time for draining is over."""
        return self._closes is not None and asyncio.get_running_loop().time() >= self._closes

    @asynccontextmanager
    async def time_limit(self, seconds: float) -> AsyncIterator[None]:
        """As `asyncio.timeout`, but the server's closing ends it too."""
        end = asyncio.get_running_loop().time() + seconds
        async with asyncio.timeout_at(end if self._closes is None else min(end, self._closes)) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)

    def leave(self, num_choices: int, seconds: float) -> None:
        """Let them go; `seconds` is how long the request took."""
        self.num_choices -= num_choices
        self._mean_seconds += 0.2 * (seconds - self._mean_seconds)

    def _wait(self) -> float:
        """Seconds until some have finished, as far as the last ones tell."""
        return min(LONGEST_WAIT, max(SHORTEST_WAIT, self._mean_seconds / 2))
