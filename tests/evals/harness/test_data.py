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


# As published: fields, their kinds and their odd ones, with words of our own.
PUBLISHED = {
    "longbench_v2": {
        "_id": "66ebd22d5a08c7b9b35de2f5", "domain": "Single-Document QA", "sub_domain": "Academic",
        "difficulty": "hard", "length": "short", "question": "Which?", "choice_A": "a", "choice_B": "b",
        "choice_C": "c", "choice_D": "d", "answer": "C", "context": "text",
    },
    "longbench_cite": {
        "idx": 0, "dataset": "hotpotqa", "context": "text", "query": "Who?", "answer": ["she"], "few_shot_scores": None,
    },
    "longbench_write": {"prompt": "Write 100 words.", "type": "Community Forum", "length": 100},
    "longwrite_ruler": {"prompt": "Write a 1000-word guide", "type": "\u793e\u533a\u8bba\u575b", "length": 1000},
    "writingbench": {
        "index": 12, "domain1": "Academic & Engineering", "domain2": "Abstract", "lang": "en", "query": "Write.",
        "checklist": [{"name": "Clarity", "criteria_description": "x", "1-2": "bad", "9-10": "good"}],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_rows_as_they_are_published(tmp_path, name: str) -> None:
    path, benchmark = tmp_path / "rows.jsonl", ROOM.load(name)
    path.write_text(json.dumps(PUBLISHED[name]))
    rows = read_rows(str(path), benchmark.Row, id_field=benchmark.ID, file=benchmark.FILE)
    assert len(rows.by_id) == 1


def test_a_table_of_pictures_as_it_is_published(tmp_path) -> None:
    import pyarrow
    from pyarrow import parquet

    benchmark, path = ROOM.load("mmlongbench_write"), tmp_path / "train.parquet"
    picture = {"bytes": b"\x89PNG...", "path": None}
    rows = [{"question": f"Write {n}.", "images": [picture] * n, "L": 1000} for n in (1, 2)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    found = read_rows(str(path), benchmark.Row, id_field=benchmark.ID, file=benchmark.FILE).by_id
    assert list(found) == ["0", "1"] and found["1"].prompt == "Write 2." and found["1"].length == 1000
    assert found["1"].images == ["data:image/png;base64,iVBORy4uLg=="] * 2
    for wrong, message in (
        ([{"question": "x", "images": [picture]}], r"row 1: \w+: field required"),
        ([{"question": "x", "images": [{"bytes": b"%PDF", "path": "a"}], "L": 1}], "neither png, jpeg"),
    ):
        parquet.write_table(pyarrow.Table.from_pylist(wrong), path)
        with pytest.raises(GodwitError, match=message):
            read_rows(str(path), benchmark.Row, id_field=benchmark.ID, file=benchmark.FILE)
    path.write_bytes(b"PAR1 no")
    with pytest.raises(GodwitError, match="is not a Parquet file"):
        read_rows(str(path), benchmark.Row, id_field=benchmark.ID, file=benchmark.FILE)
