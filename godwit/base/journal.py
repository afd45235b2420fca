"""Every answer that was paid for, under the key of its request, in one SQLite file; nothing in it is ever changed.

Why SQLite and not lines of JSON: the index lies on disk, so memory stays flat however many long answers there are; a
killed process or a power cut leaves whole transactions (write-ahead log, synchronous=FULL), with no tail to repair;
and `sqlite3 journal.sqlite` answers questions. One thread writes; what arrives while it syncs makes up the next
transaction, so a sync is shared by all calls that wait for it. An answer is on disk before a stage sees it.

The file belongs to one process on a local disk (the run's lock sees to that). Requests are kept compressed, pictures in
them as their digest. No key or header ever gets here: a request is messages and parameters.
"""

import asyncio
import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from godwit.base.errors import GodwitError, RunStoppedError

FILE_NAME = "journal.sqlite"
_MOST_VARIABLES = 500
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
  key TEXT PRIMARY KEY, role TEXT NOT NULL, stage TEXT NOT NULL, model TEXT NOT NULL, request BLOB NOT NULL,
  text TEXT NOT NULL, reasoning TEXT NOT NULL, finish TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL, attempts INTEGER NOT NULL,
  date TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
)
"""


class Answer(NamedTuple):
    """What an endpoint said.

    Attributes:
        finish: its finish_reason, e.g. "stop" or "length".
        seconds: from sending to the last byte, of the attempt that succeeded.
        attempts: requests it took.
    """

    text: str
    reasoning: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    attempts: int


class Entry(NamedTuple):
    """An answer with what it answers."""

    key: str
    role: str
    stage: str
    model: str
    request: dict[str, Any]
    answer: Answer


class Store(Protocol):
    """What calls are made against: the journal here, or one on another machine."""

    async def get(self, key: str) -> Answer | None:
        """The answer under `key`."""
        ...

    async def put(self, entry: Entry) -> None:
        """Keep an answer; it is safe when this returns."""
        ...


class Journal:
    """The file `path`, made if missing; a context manager."""

    def __init__(self, path: Path):
        self.path = path
        self._waiting: list[tuple[Entry, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    def __enter__(self) -> "Journal":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        try:
            # Reads are on the caller's thread, writes on the one above; each has its own connection.
            self._reader = sqlite3.connect(self.path, isolation_level=None)
            self._reader.execute("PRAGMA journal_mode=WAL")
            self._reader.execute(_SCHEMA)
            self._writer = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._writer.execute("PRAGMA synchronous=FULL")
        except sqlite3.DatabaseError as error:
            self._pool.shutdown()
            raise GodwitError(
                f"{self.path} is not a journal of answers ({error}); choose another --out, or delete it"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        self._writer.close()
        self._reader.close()

    def __len__(self) -> int:
        return self._reader.execute("SELECT count(*) FROM answers").fetchone()[0]

    async def get(self, key: str) -> Answer | None:
        """The answer under `key`."""
        return self.find(key)

    def find(self, key: str) -> Answer | None:
        """As `get`, without waiting for anything."""
        row = self._reader.execute(f"SELECT {', '.join(Answer._fields)} FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else Answer(*row)

    def of_row(self, keys: Sequence[str], *, first: str, most: int) -> list[tuple[str, str, str]]:
        """Of the answers a row is made of, at most `most`, those of the stage `first` before the others.

        Returns:
            Stage, finish reason and text of each; embeddings are none.
        """
        found: list[tuple[str, str]] = []
        for start in range(0, len(keys), _MOST_VARIABLES):
            part = keys[start : start + _MOST_VARIABLES]
            marks = ", ".join("?" * len(part))
            found += self._reader.execute(
                f"SELECT stage, key FROM answers WHERE finish != 'embedding' AND key IN ({marks})", part
            ).fetchall()
        chosen = sorted(found, key=lambda pair: (pair[0] != first, pair))[:most]
        answers = ((stage, self.find(key)) for stage, key in chosen)
        return [(stage, answer.finish, answer.text) for stage, answer in answers if answer is not None]

    def totals(self) -> list[tuple[str, str, str, int, int, int]]:
        """Role, stage, model, answers, prompt tokens and completion tokens of all there is, each answer once."""
        return self._reader.execute(
            "SELECT role, stage, model, count(*), sum(prompt_tokens), sum(completion_tokens) FROM answers "
            "GROUP BY role, stage, model ORDER BY role, stage, model"
        ).fetchall()

    async def put(self, entry: Entry) -> None:
        """Keep an answer; it is on disk when this returns."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, future))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._drain())
        await future

    def entries(self) -> Iterator[Entry]:
        """All answers with their requests, in the order they came."""
        fields = ", ".join(("key", "role", "stage", "model", "request", *Answer._fields))
        for row in self._reader.execute(f"SELECT {fields} FROM answers ORDER BY rowid"):
            key, role, stage, model, request, *answer = row
            yield Entry(key, role, stage, model, json.loads(zlib.decompress(request)), Answer(*answer))

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await loop.run_in_executor(self._pool, self._write, [entry for entry, _ in batch])
            except sqlite3.Error as error:
                stopped = RunStoppedError(f"could not write {self.path}: {error}; make room, the same command goes on")
                for _, future in batch + self._waiting:
                    if not future.done():
                        future.set_exception(stopped)
                self._waiting = []
                return
            for _, future in batch:
                if not future.done():
                    future.set_result(None)

    def _write(self, entries: list[Entry]) -> None:
        names = ("key", "role", "stage", "model", "request", *Answer._fields)
        rows = [
            (*entry[:4], zlib.compress(json.dumps(without_pictures(entry.request)).encode(), 1), *entry.answer)
            for entry in entries
        ]
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            # A key that is there already is left alone: an answer never changes.
            self._writer.executemany(
                f"INSERT OR IGNORE INTO answers ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", rows
            )
            self._writer.execute("COMMIT")
        except sqlite3.Error:
            self._writer.rollback()
            raise


def without_pictures(request: Any) -> Any:
    """The request with data: addresses replaced by a digest of them."""
    if isinstance(request, dict):
        return {name: without_pictures(value) for name, value in request.items()}
    if isinstance(request, list):
        return [without_pictures(value) for value in request]
    if isinstance(request, str) and request.startswith("data:") and len(request) > 256:
        return f"data:blake2b={hashlib.blake2b(request.encode(), digest_size=16).hexdigest()},bytes={len(request)}"
    return request


def writable(text: str) -> str:
    """Halves of surrogate pairs, which JSON can spell and UTF-8 cannot, become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
