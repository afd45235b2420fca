"""The search's journal: one line a finished piece of work, on disk before the next begins.

A search is a fixed sequence of records, each of which follows from those before it. So resuming is replaying: records
that are in the file are taken from it instead of being computed, then the file grows. Killed at any point and started
again, the file ends up with the same bytes. A line torn by the kill is dropped; any other fault is an error.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from godwit.base.config import differences
from godwit.base.errors import GodwitError, RunStoppedError
from godwit.base.files import write_atomic
from godwit.dist.world import World

Record = dict[str, Any]
FILE_NAME = "journal.jsonl"


class Journal:
    """Records in order; `path` None keeps them in memory only.

    Every rank holds the records; the first reads and writes the file.

    Args:
        path: the file, made if missing.
        world: the processes at work.

    Attributes:
        num_replayed: records that were in the file at the beginning.
    """

    def __init__(self, path: Path | None, *, world: World):
        self.path = path
        self.world = world
        lines = world.share(_read(path) if path is not None and world.is_first else None)
        self._found: list[Record] = lines or []
        self._place = 0
        self.num_replayed = len(self._found)

    def record(self, place: int) -> Record:
        """A record by its place, 0 is the first."""
        return self._found[place]

    def replay(self, head: Record) -> Record | None:
        """The next record of the file, which must begin with the fields of `head`; None at the file's end."""
        if self._place == len(self._found):
            return None
        record = self._found[self._place]
        self._place += 1
        if {name: record.get(name) for name in head} != head:
            raise self._broken(f"has {_short(record)} where {_short(head)} should be")
        return record

    def write(self, records: Sequence[Record]) -> None:
        """Append new records; on disk when this returns. All ranks call it with the same records."""
        assert self._place == len(self._found), "replay comes to its end first"
        self._found += records
        self._place += len(records)
        if self.path is None or not self.world.is_first:
            return
        data = "".join(json.dumps(record) + "\n" for record in records).encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunStoppedError(
                f"could not write {self.path}: {error.strerror}; the same command goes on from what is there"
            ) from error

    def settle(self, record: Record) -> None:
        """Write a record that follows from those before it, or check that the file has exactly it."""
        found = self.replay({})
        if found is None:
            self.write([record])
        elif found != json.loads(json.dumps(record)):
            raise self._broken(f"has {_short(found)} where {_short(record)} should be")

    def begin(self, settings: Record) -> None:
        """The first record: what the search is of. Another search in the file is an error that says what differs."""
        head = {"kind": "search"}
        found = self.replay(head)
        if found is None:
            self.write([head | settings])
            return
        changed = differences(
            {name: value for name, value in found.items() if name != "kind"}, json.loads(json.dumps(settings))
        )
        if changed:
            shown = "; ".join(changed[:6]) + ("; ..." if len(changed) > 6 else "")
            raise GodwitError(f"{self._where} is of another search ({shown}); choose another --out or delete it")

    @property
    def _where(self) -> str:
        return str(self.path or "the journal")

    def _broken(self, what: str) -> GodwitError:
        return GodwitError(
            f"{self._where}:{self._place} {what}: it is damaged, or of another version; "
            "delete that line and all behind it, and start again"
        )


def _read(path: Path) -> list[Record]:
    """All whole lines; a torn last one is cut off on disk too, else the next record would be glued to it."""
    if not path.exists():
        return []
    data = path.read_bytes()
    *lines, torn = data.split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise GodwitError(
                f"{path}:{number} is not JSON; delete that line and all behind it, and start again"
            ) from error
        if not isinstance(record, dict):
            raise GodwitError(
                f"{path}:{number} is not a JSON object; delete that line and all behind it, and start again"
            )
        records.append(record)
    if torn:
        write_atomic(path, data[: len(data) - len(torn)])
    return records


def _short(record: Record) -> str:
    text = json.dumps(record)
    return text if len(text) <= 100 else text[:97] + "..."
