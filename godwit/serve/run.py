"""Run a server in this process until it is told to stop.

SIGTERM or Ctrl-C: no new connections, running requests finish (those that take longer than `drain_seconds` are told
so), then it ends with code 0. A second signal ends it at once. The address is printed on stdout when the server
answers; everything else goes to stderr.
"""

import asyncio
import contextlib
import dataclasses
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import uvicorn

from godwit.base.errors import GodwitError
from godwit.engine.async_engine import AsyncEngine
from godwit.engine.config import EngineConfig
from godwit.engine.engine import Engine
from godwit.engine.params import SamplingParams
from godwit.models.decoder import Decoder
from godwit.models.weights import load
from godwit.nn.pages import pages_for
from godwit.serve.app import create_app
from godwit.serve.config import ServeConfig
from godwit.serve.prompts import ChatFormat
from godwit.serve.record import LOGGER, set_up_logging
from godwit.serve.state import ServerState
from godwit.text.tokenizer import Tokenizer

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_KEEP_ALIVE_SECONDS = 30
# Connections beyond this get 503 from uvicorn before a byte of them is read.
_MAX_CONNECTIONS = 2048
# What an answer that is cut off has for saying so, after `drain_seconds`.
_LAST_WORDS_SECONDS = 3


def make_state(folder: Path, *, config: ServeConfig, engine: EngineConfig) -> ServerState:
    """Load a model and start its engine."""
    tokenizer = Tokenizer.load(folder)
    chat = ChatFormat(folder, tokenizer, style=config.chat_style)
    model = load(folder)
    _warm_up(model, tokenizer, engine)
    running = AsyncEngine(Engine(model, tokenizer=tokenizer, config=engine))
    return ServerState(config=config, engine=running, tokenizer=tokenizer, chat=chat)


def _warm_up(model: Decoder, tokenizer: Tokenizer, config: EngineConfig) -> None:
    """Let kernels be compiled before the first request waits for them: prompts that select and that do not."""
    start = time.monotonic()
    topk = model.config.index_topk_or_none or 1
    lengths = [length for length in (4, topk + 4) if length + 4 <= model.config.max_position_embeddings]
    small = dataclasses.replace(config, max_model_len=None, num_pages=sum(pages_for(length + 4) for length in lengths))
    engine = Engine(model, tokenizer=tokenizer, config=small)
    for length in lengths:
        engine.add([tokenizer.endoftext_id] * length, SamplingParams(max_tokens=3, ignore_eos=True))
    while engine.has_work:
        engine.step()
    LOGGER.info("warmed up", extra={"values": {"seconds": time.monotonic() - start}})


def serve(folder: Path, *, config: ServeConfig, engine: EngineConfig, until_stdin_closes: bool = False) -> None:
    """Serve a model until a signal comes.

    Args:
        folder: the model's.
        config, engine: settings.
        until_stdin_closes: stop as well when stdin ends: whoever started this process has gone.

    Raises:
        GodwitError: the address is taken or is none of this machine.
    """
    listener = _listen(config)
    set_up_logging()
    state = make_state(folder, config=config, engine=engine)
    settings = uvicorn.Config(
        create_app(state),
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(config.drain_seconds) + _LAST_WORDS_SECONDS,
        limit_concurrency=_MAX_CONNECTIONS,
    )
    server = _Server(settings, state)
    if until_stdin_closes:
        threading.Thread(target=_watch_stdin, args=(server,), daemon=True).start()
    asyncio.run(server.run_on(listener))


class _Server(uvicorn.Server):
    """Uvicorn's server; says its address, and notes signals instead of dying of them in the end."""

    def __init__(self, settings: uvicorn.Config, state: ServerState):
        super().__init__(settings)
        self._state = state
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run_on(self, listener: socket.socket) -> None:
        """Serve on a socket that listens already."""
        self._loop = asyncio.get_running_loop()
        running = asyncio.ensure_future(self.serve([listener]))
        while not self.started and not running.done():
            await asyncio.sleep(0.02)
        if self.started:
            _say_hello(self._state.config, listener)
        await running

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn's own raises them again at the end, and the process would not end with 0."""
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second leaves at once."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._state.drain)
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


def _listen(config: ServeConfig) -> socket.socket:
    """A listening socket: before the model is loaded, so that a taken port is told at once."""
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
        listener.listen(1024)
    except (OSError, UnicodeError) as error:
        raise GodwitError(
            f"cannot listen on {config.host}:{config.port} ({error}); give another --port (0: a free one) or --host"
        ) from error
    return listener


def _say_hello(config: ServeConfig, listener: socket.socket) -> None:
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    pages = "; chat at /, index inspector at /inspector" if config.pages else ""
    print(f"{url}  serves {config.name} (OpenAI's API at {url}/v1{pages})", flush=True)


def _watch_stdin(server: _Server) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    server.handle_exit(signal.SIGTERM, None)
