import asyncio
import json
import sqlite3
from pathlib import Path

import pytest

from godwit.base.errors import GodwitError
from godwit.base.journal import Answer, Entry, Journal, without_pictures

ANSWER = Answer("text \U0001f426 \x00", "thought", "stop", 10, 20, 1.5, 2)


def entry(key: str, text: str = "t", stage: str = "s") -> Entry:
    return Entry(key, "writer", stage, "m", {"messages": [key]}, ANSWER._replace(text=text))


def test_what_is_put_is_there_in_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"

    async def put(journal: Journal) -> None:
        await asyncio.gather(*(journal.put(entry(f"k{number}", f"text {number}")) for number in range(200)))

    with Journal(path) as journal:
        asyncio.run(put(journal))
    with Journal(path) as journal:
        assert len(journal) == 200
        found = journal.find("k7")
        assert found is not None and found.text == "text 7" and found[1:] == ANSWER[1:]
        assert journal.find("k200") is None
        assert {each.request["messages"][0] for each in journal.entries()} == {f"k{n}" for n in range(200)}
        assert journal.totals() == [("writer", "s", "m", 200, 2000, 4000)]


def test_an_answer_never_changes(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        asyncio.run(journal.put(entry("k", "first")))
        asyncio.run(journal.put(entry("k", "second")))
        found = journal.find("k")
        assert found is not None and found.text == "first" and len(journal) == 1


def test_calls_that_wait_share_a_transaction(tmp_path: Path) -> None:
    batches = []

    class Counting(Journal):
        def _write(self, entries: list[Entry]) -> None:
            batches.append(len(entries))
            super()._write(entries)

    async def put(journal: Journal) -> None:
        await asyncio.gather(*(journal.put(entry(f"k{number}")) for number in range(64)))

    with Counting(tmp_path / "j") as journal:
        asyncio.run(put(journal))
    assert sum(batches) == 64 and len(batches) < 8


def test_pictures_are_kept_as_digests() -> None:
    picture = "data:image/png;base64," + "A" * 1000
    kept = without_pictures({"content": [{"image_url": {"url": picture}}, {"text": "data: short"}]})
    assert len(json.dumps(kept)) < 200 and kept["content"][1] == {"text": "data: short"}
    assert kept != without_pictures({"content": [{"image_url": {"url": picture + "A"}}, {"text": "data: short"}]})


def test_a_file_that_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"not a database, certainly not one" * 100)
    with pytest.raises(GodwitError, match=r"is not a journal of answers.*delete it"), Journal(tmp_path / "j"):
        pass


def test_a_write_that_fails_stops_the_run_and_keeps_what_was_there(tmp_path: Path) -> None:
    class Full(Journal):
        full = False

        def _write(self, entries: list[Entry]) -> None:
            if self.full:
                raise sqlite3.OperationalError("database or disk is full")
            super()._write(entries)

    with Full(tmp_path / "j") as journal:
        asyncio.run(journal.put(entry("a")))
        journal.full = True
        with pytest.raises(GodwitError, match=r"disk is full.*the same command goes on"):
            asyncio.run(journal.put(entry("b")))
        assert len(journal) == 1
