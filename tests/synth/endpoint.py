"""A scripted OpenAI-compatible endpoint over real HTTP: answers by a function of the request, and every fault there is.

Bytes are written by hand so that they can be wrong: late, cut, no JSON, too many. It counts what it served, so tests
can say that nothing was lost and nothing was paid twice. As a program (`python tests/synth/endpoint.py`) it echoes, for
the benchmark.
"""

import asyncio
import hashlib
import json
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

FAULTS = ("busy", "error", "no_json", "no_choices", "cut", "stall", "hang_up", "error_in_200")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
"""What an embedding here counts."""
KEY = "sk-test-0123456789abcdef"


@dataclass
class Endpoint:
    """What it does, and what was asked of it.

    Attributes:
        answer: from a request's body to the text; or to a dict of further fields of the answer.
        faults: chance of a fault for each attempt but the third of the same request; then it answers.
        kinds: which faults.
        delay: seconds until an answer.
        served: how often each request was answered in full.
        embedded: how often each text was embedded.
    """

    answer: Callable[[dict[str, Any]], str | dict[str, Any]]
    faults: float = 0.0
    kinds: tuple[str, ...] = FAULTS
    delay: float = 0.0
    models: tuple[str, ...] = ("writer-1", "judge-1")
    key: str = KEY
    context: int | None = None
    dead: bool = False
    url: str = ""
    served: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    faulted: Counter[str] = field(default_factory=Counter)
    embedded: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    @property
    def num_served(self) -> int:
        """Answers given in full."""
        return sum(self.served.values())

    @property
    def paid_twice(self) -> int:
        """Answers given in full to requests that had one."""
        return self.num_served - len(self.served)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        try:
            while not self.dead:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if self.dead or not await self._respond(head[0], headers, body, writer):
                    break
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _respond(self, line: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter) -> bool:
        if self.key and headers.get("authorization") != f"bearer {self.key}".lower():
            self._send(writer, 401, {"error": {"message": f"Incorrect API key: {headers.get('authorization')}"}})
            return True
        if line.startswith("GET") and line.split()[1].endswith("/v1/models"):
            told = {} if self.context is None else {"max_model_len": self.context}
            self._send(writer, 200, {"data": [{"id": name, **told} for name in self.models]})
            return True
        if line.split()[1].endswith("/v1/embeddings"):
            texts = json.loads(body)["input"]
            self.embedded.update(texts)
            vectors = [[float(text.count(letter)) for letter in LETTERS] for text in texts]
            items = [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]
            self._send(writer, 200, {"data": items[::-1], "usage": {"prompt_tokens": 10 * len(texts)}})
            return True
        if not line.split()[1].endswith("/v1/chat/completions"):
            self._send(writer, 404, {"error": {"message": "no such address"}})
            return True
        request = json.loads(body)
        if request.get("max_tokens") == 1:  # a probe
            self._send(writer, 200, _completion("x", {}, request))
            return True
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._complete(request, writer)
        finally:
            self.at_once -= 1

    async def _complete(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        name = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
        self.attempts[name] += 1
        chance = random.Random(f"{name}/{self.attempts[name]}")
        if chance.random() < self.faults and self.attempts[name] % 3:
            kind = chance.choice(self.kinds)
            self.faulted[kind] += 1
            return await self._fault(kind, writer, request)
        if self.delay:
            await asyncio.sleep(self.delay)
        given = self.answer(request)
        text, more = (given, {}) if isinstance(given, str) else (given.pop("content"), given)
        if "status" in more:
            self._send(writer, more["status"], {"error": {"message": text}})
            return True
        self.served[name] += 1
        self.bodies.append(request)
        if request.get("stream"):
            self._stream(writer, text, cut=False)
        else:
            self._send(writer, 200, _completion(text, more, request))
        return True

    async def _fault(self, kind: str, writer: asyncio.StreamWriter, request: dict[str, Any]) -> bool:
        """True if the connection goes on."""
        if kind == "busy":
            self._send(writer, 429, {"error": {"message": "slow down"}}, "Retry-After: 0.05\r\n")
        elif kind == "error":
            self._send(writer, 500, {"error": {"message": f"internal; you sent Bearer {self.key}"}})
        elif kind == "no_json":
            self._raw(writer, 200, b'{"choices": [{"message": {"content": "half of')
        elif kind == "no_choices":
            self._send(writer, 200, {"choices": []})
        elif kind == "error_in_200":
            self._send(writer, 200, {"error": {"message": "max tries exceeded"}})
        elif kind == "stall":
            await asyncio.sleep(1.0)
            return False
        elif kind == "cut" and request.get("stream"):
            self._stream(writer, "half of an answer", cut=True)
            return False
        elif kind == "cut":
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"choices": [')
            await writer.drain()
            return False
        else:
            assert kind == "hang_up", kind
            return False
        return True

    def _send(self, writer: asyncio.StreamWriter, status: int, value: Any, header: str = "") -> None:
        self._raw(writer, status, json.dumps(value).encode(), header)

    def _raw(self, writer: asyncio.StreamWriter, status: int, body: bytes, header: str = "") -> None:
        head = f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{header}\r\n"
        writer.write(head.encode() + body)

    def _stream(self, writer: asyncio.StreamWriter, text: str, *, cut: bool) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for start in range(0, len(text), 7):
            piece = {"choices": [{"delta": {"content": text[start : start + 7]}}]}
            writer.write(f"data: {json.dumps(piece)}\n\n".encode())
        if not cut:
            end = {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": _usage("", text)}
            writer.write(f"data: {json.dumps(end)}\n\ndata: [DONE]\n\n".encode())


def _completion(text: str, more: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    prompt = json.dumps(request["messages"])
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": more.get("finish_reason", "stop")}
    return {"object": "chat.completion", "choices": [choice], "usage": _usage(prompt, text)}


def _usage(prompt: str, text: str) -> dict[str, int]:
    return {"prompt_tokens": len(prompt) // 4 + 1, "completion_tokens": len(text) // 4 + 1}


@contextmanager
def serving(answer: Callable[[dict[str, Any]], str | dict[str, Any]], **settings: Any) -> Iterator[Endpoint]:
    """An endpoint in a thread of this process; `.url` is its address."""
    endpoint = Endpoint(answer, **settings)
    loop = asyncio.new_event_loop()
    started = threading.Event()
    stop = asyncio.Event()

    async def main() -> None:
        server = await asyncio.start_server(endpoint.connected, "127.0.0.1", 0, limit=2**26)
        endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        started.set()
        await stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield endpoint
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def prompt_of(request: dict[str, Any]) -> str:
    """The text of the last message."""
    content = request["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


async def _main(port: int) -> None:
    endpoint = Endpoint(lambda request: "word " * 200, key="", models=("writer-1",))
    endpoint.bodies = _Nothing()
    server = await asyncio.start_server(endpoint.connected, "127.0.0.1", port, limit=2**26)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class _Nothing(list):
    def append(self, item: Any) -> None:
        """Keep nothing: the benchmark measures the memory of others, but not for long."""


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
