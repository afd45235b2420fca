"""A job through the engine and back to the client: as one JSON object, or as server-sent events.

However it ends (an answer, a client that hangs up, a reader that takes nothing, the time being up), the engine's
streams are closed, and with that their pages are free.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import JSONResponse, Response

from godwit.base.errors import GodwitError
from godwit.engine.outputs import Delta
from godwit.serve.errors import ApiError, as_api_error
from godwit.serve.gate import Receive, Scope, Send
from godwit.serve.job import Job
from godwit.serve.record import LOGGER, Record
from godwit.serve.state import ServerState

T = TypeVar("T")
CLIENT_GONE = 499
"""Status in the log of a request whose client did not wait; nobody is there to read it."""
DONE = b"data: [DONE]\n\n"


class ClientGoneError(GodwitError):
    """Nobody waits for the answer."""


async def respond(server: ServerState, request: Request, job: Job) -> Response:
    """The response to a job.

    Raises:
        ApiError: there is no place for it, or the time is up before anything was sent.
        GodwitError: the engine refuses it.
    """
    record = Record.of(request.scope)
    record.stream = job.stream
    record.prompt_tokens = sum(map(len, job.prompts))
    if server.config.log_prompts:
        record.prompt = [server.tokenizer.decode(list(prompt)) for prompt in job.prompts]
    chunks = _chunks(server, job, record)
    if not job.stream:
        return await _whole(server, request, job, chunks, record)
    # The first chunk decides the status: what the engine refuses is an error, not a stream that breaks off.
    try:
        first = await until_gone(request.receive, _first(server, chunks, record))
    except ClientGoneError:
        await chunks.aclose()
        return _gone(record)
    except BaseException:
        await chunks.aclose()
        raise
    return EventStream(server, job, first, chunks, record)


async def _whole(
    server: ServerState, request: Request, job: Job, chunks: AsyncGenerator[Any, None], record: Record
) -> Response:
    async def run() -> None:
        async with _time_limit(server, record), aclosing(chunks):
            async for _ in chunks:
                pass

    try:
        await until_gone(request.receive, run())
    except ClientGoneError:
        return _gone(record)
    return JSONResponse(job.answer.whole())


async def _first(server: ServerState, chunks: AsyncGenerator[Any, None], record: Record) -> Any:
    async with _time_limit(server, record):
        return await anext(chunks)


def _gone(record: Record) -> Response:
    record.ended = "client_gone"
    return Response(status_code=CLIENT_GONE)


async def _chunks(server: ServerState, job: Job, record: Record) -> AsyncGenerator[dict[str, Any], None]:
    """The answer's chunks; keeps the books of the server and of the log. What is entered here is left here."""
    server.enter(job.num_choices)
    try:
        async with aclosing(_deltas(server, job, record.id)) as deltas:
            async for prompt, delta in deltas:
                if delta.token_ids:
                    record.first_token()
                for chunk in job.answer.chunks(prompt, delta):
                    yield chunk
        if job.include_usage:
            yield job.answer.usage_chunk()
    finally:
        server.leave(job.num_choices, record.elapsed())
        usage = job.answer.usage()
        record.completion_tokens = usage["completion_tokens"]
        record.cached_tokens = usage["prompt_tokens_details"]["cached_tokens"]
        if server.config.log_prompts and job.answer.states:
            record.answer = [choice.get("message", choice) for choice in job.answer.whole()["choices"]]


async def _deltas(server: ServerState, job: Job, name: str) -> AsyncGenerator[tuple[int, Delta], None]:
    """Deltas of all prompts, as they come, with the number of their prompt."""

    def stream(number: int) -> AsyncGenerator[Delta, None]:
        prompt = job.prompts[number]
        return server.engine.stream(prompt, job.params, request_id=f"{name}-{number}", priority=job.priority)

    if len(job.prompts) == 1:
        async with aclosing(stream(0)) as deltas:
            async for delta in deltas:
                yield 0, delta
        return
    queue: asyncio.Queue[tuple[int, Delta | BaseException | None]] = asyncio.Queue()

    async def forward(number: int) -> None:
        try:
            async with aclosing(stream(number)) as deltas:
                async for delta in deltas:
                    queue.put_nowait((number, delta))
        except GodwitError as error:
            queue.put_nowait((number, error))
        else:
            queue.put_nowait((number, None))

    tasks = [asyncio.create_task(forward(number)) for number in range(len(job.prompts))]
    try:
        left = len(tasks)
        while left:
            number, item = await queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                left -= 1
            else:
                yield number, item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _time_limit(server: ServerState, record: Record) -> AsyncIterator[None]:
    """What is left of a request's time and of the server's; and engine errors as they are to be told."""
    try:
        async with server.time_limit(server.config.request_seconds - record.elapsed()):
            yield
    except TimeoutError as error:
        if server.closed:
            record.ended = "shut_down"
            raise server.shutting_down() from error
        record.ended = "timeout"
        raise ApiError(
            f"the answer took more than {server.config.request_seconds:g} s; ask for fewer tokens (max_tokens)",
            status=504, kind="server_error", code="timeout",
        ) from error  # fmt: skip
    except GodwitError as error:
        if not server.engine.alive and not isinstance(error, ApiError):
            LOGGER.error("engine stopped", exc_info=error)
            raise ApiError(
                "the engine has stopped; the server's log says why", status=500, kind="server_error",
                code="engine_stopped",
            ) from error  # fmt: skip
        raise


async def until_gone(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client hangs up.

    Raises:
        ClientGoneError: it did.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_hang_up(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError("the client hung up")
    finally:
        for one in (task, watcher):
            one.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events: one for each chunk, and `[DONE]`."""

    media_type = "text/event-stream"

    def __init__(
        self, server: ServerState, job: Job, first: Any, chunks: AsyncGenerator[dict[str, Any], None], record: Record
    ):
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._server, self._job, self._first, self._all, self._record = server, job, first, chunks, record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await until_gone(receive, self._write(send))
        except ClientGoneError:
            self._record.ended = "client_gone"
        except _SlowReaderError:
            # The connection is left as it is, without an end: uvicorn closes it.
            self._record.ended = "slow_reader"
        finally:
            await self._all.aclose()

    async def _write(self, send: Send) -> None:
        await self._send(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async with _time_limit(self._server, self._record):
                await self._event(send, self._first)
                async for chunk in self._all:
                    await self._event(send, chunk)
        except _SlowReaderError:
            raise
        except GodwitError as error:
            self._record.error = str(error)
            await self._event(send, as_api_error(error).body())
        await self._send(send, {"type": "http.response.body", "body": DONE, "more_body": False})

    async def _event(self, send: Send, chunk: dict[str, Any]) -> None:
        if self._job.include_usage and "choices" in chunk:
            chunk = {**chunk, "usage": chunk.get("usage")}
        data = b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
        await self._send(send, {"type": "http.response.body", "body": data, "more_body": True})

    async def _send(self, send: Callable[..., Awaitable[None]], message: dict[str, Any]) -> None:
        """Sending waits while the reader takes nothing and the connection's buffer is full."""
        limit = asyncio.timeout(self._server.config.write_seconds)
        try:
            async with limit:
                await send(message)
        except TimeoutError as error:
            if not limit.expired():
                raise  # the whole request's time is up, not this reader's
            raise _SlowReaderError("the reader takes nothing") from error


class _SlowReaderError(GodwitError):
    """A reader took nothing for too long."""
