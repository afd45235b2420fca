"""One endpoint, kept busy: slots, limits, what to try again and when, and what an answer must look like.

Plain HTTP by aiohttp. The openai client takes 4.3 ms of one core for a call at 64 at a time, where this takes 0.4 (on
the machine of 2026-11-24; its connection pool looks through all connections for each request), and of what it offers
only the header and the address would be used: retries, limits and the breaker must know of each other.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import aiohttp

from godwit.base.errors import RunStoppedError
from godwit.synth.endpoint import Endpoint, estimate_tokens
from godwit.synth.journal import Answer
from godwit.synth.pace import Breaker, Pace, backoff
from godwit.synth.rows import Failed, digest

SHOWN = 300
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


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked. `seed` tells several answers to one prompt apart, also where it is not sent."""

    model: str
    messages: list[dict[str, Any]]
    parameters: dict[str, Any] = field(default_factory=dict)
    seed: int

    def record(self) -> dict[str, Any]:
        """JSON values of it."""
        return {"model": self.model, "messages": self.messages, "parameters": self.parameters, "seed": self.seed}

    def key(self) -> str:
        """The content key: the same for the same model, prompt and parameters, whoever asks and whatever parses it."""
        return digest(self.record())


def body_of(request: Request, endpoint: Endpoint, *, send_seed: bool, stream: bool = False) -> bytes:
    """The request as it goes over the wire to `endpoint`."""
    parameters = dict(request.parameters)
    if "max_tokens" in parameters:
        parameters[endpoint.max_tokens_name] = parameters.pop("max_tokens")
    if send_seed:
        parameters["seed"] = request.seed
    if stream:
        parameters |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps({"model": request.model, "messages": request.messages, **parameters}).encode()


class _Trouble(Exception):
    """An attempt failed in a way that another may not."""


class _Busy(Exception):
    """The endpoint wants to be asked less often."""

    def __init__(self, reason: str, seconds: float | None):
        super().__init__(reason)
        self.seconds = seconds


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

    async def __aenter__(self) -> "Line":
        timeout = aiohttp.ClientTimeout(
            total=None if self.limits.stream else self.limits.timeout, sock_read=self.limits.timeout, sock_connect=30
        )
        connector = aiohttp.TCPConnector(limit=self.limits.concurrency)
        self.session = aiohttp.ClientSession(timeout=timeout, connector=connector)
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
        async with self._slots:
            size = estimate_tokens(request.messages)
            attempt, reason = 0, ""
            for number in range(1, 10_000):
                trying = await self._breaker.enter()
                try:
                    answer = await self._attempt(request, size, number)
                except _Busy as busy:
                    self._wait_for_room(busy)
                    continue
                except _Trouble as trouble:
                    reason = str(trouble)
                    self._breaker.failed(reason)
                    attempt += not self._breaker.open
                else:
                    self._breaker.succeeded()
                    self._num_refused = self._num_busy = 0
                    return answer
                finally:
                    self._breaker.left(trying)
                if attempt >= self.limits.attempts:
                    break
                if not self._breaker.open:
                    await asyncio.sleep(backoff(attempt - 1, first=0.5))
            raise Failed(f"no answer in {attempt} attempts, the last: {reason}")

    async def _attempt(self, request: Request, size: int, number: int) -> Answer:
        await self._requests.take(1)
        expected = size + request.parameters.get("max_tokens", 0) // 4
        await self._tokens.take(expected)
        start = time.perf_counter()
        body = body_of(request, self.endpoint, send_seed=self.limits.send_seed, stream=self.limits.stream)
        headers = {"Content-Type": "application/json", **self.endpoint.headers()}
        try:
            async with self.session.post(self.endpoint.chat_url, data=body, headers=headers) as response:
                if response.status != 200:
                    raise self._fault(response.status, response.headers.get("Retry-After"), await response.text())
                if self.limits.stream and "event-stream" in response.headers.get("Content-Type", ""):
                    data = await _joined(response.content)
                else:
                    data = _json_of(await response.read())
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError) as error:
            raise _Trouble(self.endpoint.redact(f"{type(error).__name__} {error}")[:SHOWN]) from None
        text, reasoning, finish = self._said(data)
        usage = data.get("usage")
        if not isinstance(usage, dict) or not isinstance(usage.get("prompt_tokens"), int):
            self.num_unreported += 1
            usage = {"prompt_tokens": size, "completion_tokens": estimate_tokens(text + reasoning)}
        tokens = usage["prompt_tokens"], int(usage.get("completion_tokens") or 0)
        self._tokens.correct(sum(tokens) - expected)
        return Answer(text, reasoning, finish, *tokens, round(time.perf_counter() - start, 4), number)

    def _said(self, data: dict[str, Any]) -> tuple[str, str, str]:
        """Content, thought and finish reason; an error that came with status 200 is no content."""
        choices = data.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise _Trouble(self.endpoint.redact(f"an answer without choices: {json.dumps(data)[:SHOWN]}"))
        message = choices[0].get("message")
        if not isinstance(message, dict):
            raise _Trouble(self.endpoint.redact(f"an answer without a message: {json.dumps(data)[:SHOWN]}"))
        content, reasoning = message.get("content"), message.get("reasoning_content")
        texts = [_clean(part) if isinstance(part, str) else "" for part in (content, reasoning)]
        return texts[0], texts[1], str(choices[0].get("finish_reason") or "unknown")

    def _fault(self, status: int, retry_after: str | None, body: str) -> Exception:
        said = self.endpoint.redact(_error_text(body))[:SHOWN]
        reason = f"status {status}: {said}"
        if status == 429 and "insufficient_quota" in body:
            return self._stop(f"{reason}; {_WRONG_SETTINGS[402]}")
        if status == 429:
            return _Busy(reason, _seconds(retry_after))
        if status in _ONE_OFF or status >= 500:
            seconds = _seconds(retry_after)
            return _Busy(reason, seconds) if status == 503 and seconds is not None else _Trouble(reason)
        if status in _WRONG_SETTINGS:
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


async def _joined(lines: aiohttp.StreamReader) -> dict[str, Any]:
    """A stream of pieces as the answer it spells; one that ends before it says why is cut."""
    content: list[str] = []
    reasoning: list[str] = []
    finish, usage = None, None
    async for line in lines:
        if not line.startswith(b"data:"):
            continue
        piece = line[5:].strip()
        if piece == b"[DONE]":
            break
        data = _json_of(piece)
        usage = data.get("usage") or usage
        for choice in data.get("choices") or []:
            delta = choice.get("delta") or {}
            content.append(delta.get("content") or "")
            reasoning.append(delta.get("reasoning_content") or "")
            finish = choice.get("finish_reason") or finish
    if finish is None:
        raise _Trouble("the stream was cut before its end")
    message = {"content": "".join(content), "reasoning_content": "".join(reasoning)}
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


def _json_of(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise _Trouble(f"an answer that is not JSON, {len(body)} bytes") from None
    if not isinstance(data, dict):
        raise _Trouble("an answer that is not a JSON object")
    return data


def _error_text(body: str) -> str:
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return body
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is taken as not said."""
    try:
        return None if retry_after is None else max(0.0, float(retry_after))
    except ValueError:
        return None


def _clean(text: str) -> str:
    """Halves of surrogate pairs, which JSON can spell and UTF-8 cannot, become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
