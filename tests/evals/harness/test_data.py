"""Rows: every fault of a file has its place, and nothing is read from a branch of a hub."""

import json

import pytest
from pydantic import BaseModel, Field

from godwit.base.errors import GodwitError
from godwit.evals.benchmarks import ROOM
from godwit.evals.harness.data import first_rows, read_rows
from godwit.evals.harness.run import SAMPLES_FOLDER


class Row(BaseModel):
    id: str = Field(alias="_id")
    text: str


def read(tmp_path, content: bytes | str, id_field: str | None = "id"):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rows(str(path), Row, id_field=id_field, file="rows.jsonl")


def test_lines_and_lists_are_the_same_rows(tmp_path) -> None:
    rows = [{"_id": "a", "text": "x", "more": 1}, {"_id": "b", "text": "y\u2028z"}]
    lines = read(tmp_path, "\ufeff" + "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n")
    listed = read(tmp_path, json.dumps(rows))
    assert lines.by_id == listed.by_id
    assert list(lines.by_id) == ["a", "b"]
    assert first_rows(lines, 1) == [("a", lines.by_id["a"])]
    with pytest.raises(GodwitError, match="limit is 0"):
        first_rows(lines, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"_id": "a", "text": "x"}\n{"_id": "b"}', "rows.jsonl:2: text: field required; a row is {_id, text}"),
        ('{"_id": "a", "text": 3}', "rows.jsonl:1: text: input should be a valid string"),
        ('{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}', "rows.jsonl:2: id 'a' comes twice"),
        ('{"_id": "a", "text": "x"}\n{nonsense', "rows.jsonl:2 is not JSON"),
        ('"text"', "rows.jsonl:1 is not an object"),
        ('[{"_id": "a", "text": "x"}, 3]', "item 2 is not an object"),
        ("[" * 200_000, "nested too deeply"),
        ("", "has no rows"),
        ("\n \n", "has no rows"),
        ('{"_id": "a", "text": "caf\u00e9"}'.encode("latin-1"), "rows.jsonl:1 is not UTF-8 \\(byte 25\\)"),
    ],
)
def test_faults_have_their_place(tmp_path, content, message: str) -> None:
    with pytest.raises(GodwitError, match=message):
        read(tmp_path, content)


def test_rows_without_ids_are_known_by_their_content(tmp_path) -> None:
    first = read(tmp_path, '{"_id": "a", "text": "x"}\n{"_id": "b", "text": "x"}', id_field=None)
    again = read(tmp_path, '{"_id": "b", "text": "x"}\n{"_id": "a", "text": "x"}', id_field=None)
    assert set(first.by_id) == set(again.by_id)
    with pytest.raises(GodwitError, match="the same row comes twice"):
        read(tmp_path, '{"_id": "a", "text": "x"}\n' * 2, id_field=None)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jsonl", "could not read nowhere.jsonl: No such file"),
        ("hf:THUDM/LongBench-v2", "is not pinned; write hf:THUDM/LongBench-v2@COMMIT"),
        ("hf:THUDM/LongBench-v2@main", "is not pinned"),
        ("hf:LongBench", "is no data set"),
    ],
)
def test_sources_that_cannot_be(source: str, message: str) -> None:
    with pytest.raises(GodwitError, match=message):
        read_rows(source, Row, id_field="id", file="data.json")


def test_a_hub_that_cannot_be_reached_says_so(monkeypatch, tmp_path) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(GodwitError, match="the hub cannot be reached and data\\.json is not in its cache"):
        read_rows("hf:THUDM/LongBench-v2@" + "0" * 40, Row, id_field="id", file="data.json")


@pytest.mark.parametrize("name", ROOM.names())
def test_every_benchmark_has_samples_of_its_own(name: str) -> None:
    benchmark = ROOM.load(name)
    rows = read_rows(str(SAMPLES_FOLDER / f"{name}.jsonl"), benchmark.Row, id_field=benchmark.ID, file=benchmark.FILE)
    assert 3 <= len(rows.by_id) <= 30
    assert benchmark.METRICS and benchmark.PUBLISHED.source
    assert benchmark.figures({}, {}, benchmark.Options()) is not None
