"""One endpoint, kept busy: slots, limits, what to try again and when, and what an answer must look like.

Plain HTTP by aiohttp. The openai client takes 4.3 ms of one core for a call at 64 at a time, where this takes 0.4 (on
the machine of 2026-11-24; its connection pool looks through all connections for each request), and of what it offers
only the header and the address would be used: retries, limits and the breaker must know of each other.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import aiohttp

from godwit.base.errors import RunStoppedError
from godwit.base.journal import Answer
from godwit.synth.endpoint import Endpoint, estimate_tokens
from godwit.synth.pace import Breaker, Pace, backoff
from godwit.synth.rows import Failed
from godwit.synth.wire import SHOWN, Request, Trouble, body_of, error_text, joined, json_of, said, vectors

ValueT = TypeVar("ValueT")

# Bytes of one piece of a stream.
LONGEST_LINE = 2**24
# Refusals in a row that cannot be the rows' own fault.
REFUSALS = 20
_ONE_OFF = {408, 409, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
_WRONG_SETTINGS = {
    401: "the key is wrong or missing; check the variable named by --key-env",
    402: "the account has no money left",
    403: "the key may not use this; check the variable named by --key-env",
    404: "there is no such address or model; check --endpoint and --model",
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How an endpoint may be used.

    Attributes:
        concurrency: calls under way at once.
        rpm, tpm: requests and tokens a minute; None for no limit.
        attempts: requests for one call, while others get answers.
        timeout: seconds for an answer; when streaming, between two pieces of it.
        threshold, patience: see `pace.Breaker`.
        stream: take answers piece by piece, for endpoints that cut silent connections.
        send_seed: whether the endpoint is told the seed.
    """

    concurrency: int = 16
    rpm: float | None = None
    tpm: float | None = None
    attempts: int = 6
    timeout: float = 600.0
    threshold: int = 12
    patience: float = 300.0
    stream: bool = False
    send_seed: bool = True


class _Busy(Exception):
    """The endpoint wants to be asked less often."""

    def __init__(self, reason: str, seconds: float | None):
        super().__init__(reason)
        self.seconds = seconds


class _Sent(NamedTuple):
    """An answer with the seconds of the attempt that succeeded and the number of attempts."""

    value: Any
    seconds: float
    attempts: int


class Line:
    """An async context manager around the connections to one endpoint."""

    def __init__(self, endpoint: Endpoint, *, limits: Limits):
        self.endpoint = endpoint
        self.limits = limits
        self.num_unreported = 0
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._requests, self._tokens = Pace(limits.rpm), Pace(limits.tpm)
        self._breaker = Breaker(endpoint.url, threshold=limits.threshold, patience=limits.patience)
        self._num_refused = 0
        self._num_busy, self._busy_since = 0, 0.0
        self._answered = False

    async def __aenter__(self) -> "Line":
        timeout = aiohttp.ClientTimeout(
            total=None if self.limits.stream else self.limits.timeout, sock_read=self.limits.timeout, sock_connect=30
        )
        connector = aiohttp.TCPConnector(limit=self.limits.concurrency)
        self.session = aiohttp.ClientSession(timeout=timeout, connector=connector, read_bufsize=LONGEST_LINE)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.session.close()

    async def ask(self, request: Request) -> Answer:
        """The answer, after as many attempts as it takes.

        Raises:
            Failed: the endpoint refused this request or kept failing on it.
            RunStoppedError: the endpoint is down, or refuses us altogether.
        """
        size = estimate_tokens(request.messages)
        body = body_of(request, self.endpoint, send_seed=self.limits.send_seed, stream=self.limits.stream)
        expected = size + request.parameters.get("max_tokens", 0) // 4
        sent = await self._sent(self.endpoint.chat_url, body, said, expected)
        text, reasoning, finish, tokens = sent.value
        if tokens is None:
            self.num_unreported += 1
            tokens = size, estimate_tokens(text + reasoning)
        self._tokens.correct(sum(tokens) - expected)
        prompt, completion = tokens
        return Answer(text, reasoning, finish, prompt, completion, sent.seconds, sent.attempts)

    async def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """A vector for each text, and the tokens it took. Raises as `ask`."""
        expected = sum(map(estimate_tokens, texts))
        body = json.dumps({"model": self.endpoint.model, "input": list(texts)}).encode()
        sent = await self._sent(self.endpoint.embed_url, body, lambda data: vectors(data, len(texts)), expected)
        found, tokens = sent.value
        return found, expected if tokens is None else tokens

    async def _sent(self, url: str, body: bytes, read: Callable[[dict[str, Any]], ValueT], expected: int) -> _Sent:
        """What `read` makes of the answer to `body`."""
        async with self._slots:
            attempt, reason = 0, ""
            for number in itertools.count(1):
                trying = await self._breaker.enter()
                await self._requests.take(1)
                await self._tokens.take(expected)
                start = time.perf_counter()
                try:
                    value = read(await self._attempt(url, body))
                except _Busy as busy:
                    self._wait_for_room(busy)
                    continue
                except Trouble as trouble:
                    reason = self.endpoint.redact(str(trouble))[:SHOWN]
                    self._breaker.failed(reason)
                    attempt += not self._breaker.open
                else:
                    self._breaker.succeeded()
                    self._num_refused = self._num_busy = 0
                    self._answered = True
                    return _Sent(value, round(time.perf_counter() - start, 4), number)
                finally:
                    self._breaker.left(trying)
                if attempt >= self.limits.attempts:
                    break
                if not self._breaker.open:
                    await asyncio.sleep(backoff(attempt - 1, first=0.5))
            raise Failed(f"no answer in {attempt} attempts, the last: {reason}")

    async def _attempt(self, url: str, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", **self.endpoint.headers()}
        try:
            async with self.session.post(url, data=body, headers=headers) as response:
                if response.status != 200:
                    text = (await response.read()).decode(errors="replace")
                    raise self._fault(response.status, response.headers.get("Retry-After"), text)
                if "event-stream" in response.headers.get("Content-Type", ""):
                    return await joined(response.content)
                return json_of(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:  # ValueError: a line beyond the buffer
            raise Trouble(f"{type(error).__name__} {error}") from None

    def _fault(self, status: int, retry_after: str | None, body: str) -> Exception:
        reason = f"status {status}: {self.endpoint.redact(error_text(body))[:SHOWN]}"
        if status == 429 and "insufficient_quota" in body:
            return self._stop(f"{reason}; {_WRONG_SETTINGS[402]}")
        if status == 429:
            return _Busy(reason, _seconds(retry_after))
        if status in _ONE_OFF or status >= 500:
            seconds = _seconds(retry_after)
            return _Busy(reason, seconds) if status == 503 and seconds is not None else Trouble(reason)
        # Some endpoints answer 403 to a single request whose content they do not like.
        if status in _WRONG_SETTINGS and not (status == 403 and self._answered):
            return self._stop(f"{reason}; {_WRONG_SETTINGS[status]}")
        self._num_refused += 1
        if self._num_refused >= REFUSALS:
            return self._stop(f"{REFUSALS} requests in a row were refused, the last with {reason}")
        return Failed(f"refused with {reason}")

    def _stop(self, reason: str) -> RunStoppedError:
        return RunStoppedError(f"{self.endpoint.url}: {reason} (all answers so far are kept)")

    def _wait_for_room(self, busy: _Busy) -> None:
        now = time.monotonic()
        if self._num_busy == 0:
            self._busy_since = now
        self._num_busy += 1
        seconds = busy.seconds if busy.seconds is not None else backoff(min(self._num_busy, 6))
        if max(seconds, now - self._busy_since) > self.limits.patience:
            raise self._stop(f"no room for {seconds:.0f} s more ({busy}); give the same command again later")
        self._breaker.hold(seconds)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is taken as not said."""
    try:
        return None if retry_after is None else max(0.0, float(retry_after))
    except ValueError:
        return None
