"""The engine behind asyncio: its loop runs in one thread, requests come from any event loop, deltas go back as streams.

Only that thread touches the engine. Callers leave orders in a queue, which it empties between steps; when it has no
work it sleeps on the queue. Who stops reading (closes or cancels the stream) aborts the request and frees its pages.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.engine.engine import Engine
from godwit.engine.outputs import Delta, EngineStats
from godwit.engine.params import SamplingParams

# What a stream's queue holds besides deltas: what stopped the engine.
Item = Delta | BaseException
Result = TypeVar("Result")


class Order:
    """A function that the engine's thread is to call between two steps, and its answer."""

    def __init__(self, function: Callable[[], Any]):
        self.function = function
        self.answer: Future[Any] = Future()

    def obey(self) -> None:
        """Call and answer, unless the caller has gone away before."""
        if self.answer.set_running_or_notify_cancel():
            try:
                result = self.function()
            except GodwitError as error:
                self.answer.set_exception(error)
            else:
                self.answer.set_result(result)

    def refuse(self, reason: BaseException) -> None:
        """Answer that nobody will do it."""
        if self.answer.set_running_or_notify_cancel():
            self.answer.set_exception(_stopped(reason))


class Stream:
    """Where a request's deltas go, and how many of its choices go on."""

    def __init__(self, tell: Callable[[Item], None], num_left: int):
        self.tell, self.num_left = tell, num_left


class AsyncEngine:
    """Runs an engine's loop in a thread, from now until `close`.

    Args:
        engine: nobody else may use it meanwhile.
    """

    def __init__(self, engine: Engine):
        self.engine = engine
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._streams: dict[str, Stream] = {}
        self._end: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="godwit-engine", daemon=True)
        self._thread.start()

    async def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams, *, request_id: str | None = None, priority: int = 0
    ) -> AsyncIterator[Delta]:
        """Deltas of all choices as they come, until each has a `finish_reason`.

        Raises:
            GodwitError: the engine refuses the request, or was closed or has stopped.
        """
        loop, items = asyncio.get_running_loop(), asyncio.Queue[Item]()

        def tell(item: Item) -> None:
            # The reader's loop may be gone already; then nobody waits for it.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(items.put_nowait, item)

        def add() -> str:
            name = self.engine.add(prompt_ids, params, request_id=request_id, priority=priority)
            self._streams[name] = Stream(tell, params.n)
            return name

        added, left = self._ask(add), params.n
        try:
            await asyncio.wrap_future(added)
            while left:
                item = await items.get()
                if isinstance(item, BaseException):
                    raise _stopped(item)
                left -= item.finish_reason is not None
                yield item
        finally:
            if left:
                self._orders.put(Order(lambda: self._leave(added)))

    def _leave(self, added: "Future[str]") -> None:
        """Abort what was added, if it was: orders are obeyed in turn, so it is known by now."""
        was_added = added.done() and not added.cancelled() and added.exception() is None
        if was_added and self._streams.pop(added.result(), None) is not None:
            self.engine.abort(added.result())

    async def abort(self, request_id: str) -> None:
        """End a request; its stream gets last deltas with `finish_reason` "abort"."""
        await asyncio.wrap_future(self._ask(lambda: self.engine.abort(request_id)))

    async def call(self, function: Callable[[], Result]) -> Result:
        """What a function returns that has the model to itself: it runs in the engine's thread between two steps."""
        return await asyncio.wrap_future(self._ask(function))

    async def stats(self) -> EngineStats:
        """Counts so far, taken between two steps."""
        return await asyncio.wrap_future(self._ask(self.engine.stats))

    async def swap_weights(self, weights: Mapping[str, Tensor], *, recompute: bool = True) -> int:
        """New weights between two steps; see `Engine.swap_weights`."""
        return await asyncio.wrap_future(self._ask(lambda: self.engine.swap_weights(weights, recompute=recompute)))

    async def close(self) -> None:
        """Stop after the step in progress; requests in work end with an error."""
        self._orders.put(None)
        await asyncio.to_thread(self._thread.join)

    @property
    def alive(self) -> bool:
        """Whether it takes requests: False after `close`, or when a step has failed."""
        return self._end is None

    def _ask(self, function: Callable[[], Any]) -> "Future[Any]":
        order = Order(function)
        self._orders.put(order)
        if self._end is not None:
            # It may have ended before or after the order was left; either way nobody else answers.
            self._refuse_all(self._end)
        return order.answer

    def _run(self) -> None:
        end: BaseException = GodwitError("it was closed")
        try:
            while self._obey():
                for delta in self.engine.step():
                    self._tell(delta)
        except BaseException as error:
            # Whatever it is, those who wait must know; the thread ends with it.
            end = error
            raise
        finally:
            self._end = end
            for stream in self._streams.values():
                stream.tell(end)
            self._streams.clear()
            self._refuse_all(end)

    def _obey(self) -> bool:
        """Do what was asked for; wait for it if there is nothing else to do. False: it is time to stop."""
        while not self.engine.has_work or not self._orders.empty():
            order = self._orders.get()
            if order is None:
                return False
            order.obey()
        return True

    def _tell(self, delta: Delta) -> None:
        stream = self._streams.get(delta.request_id)
        if stream is not None:
            stream.tell(delta)
            stream.num_left -= delta.finish_reason is not None
            if not stream.num_left:
                del self._streams[delta.request_id]

    def _refuse_all(self, reason: BaseException) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                order = self._orders.get_nowait()
                if order is not None:
                    order.refuse(reason)


def _stopped(reason: BaseException) -> GodwitError:
    error = GodwitError(f"the engine has stopped: {reason}; make a new one")
    error.__cause__ = reason
    return error
