import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from godwit.base.errors import GodwitError
from godwit.synth.pipelines.selfinstruct_longqa import Document
from godwit.synth.source import Source


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_same_rows_from_every_form(tmp_path: Path) -> None:
    rows = [{"id": "a.txt", "context": "one"}, {"id": "b.txt", "context": "two 二"}]
    lines = write(tmp_path / "r.jsonl", "\ufeff" + "\n\n".join(map(json.dumps, rows)))
    whole = write(tmp_path / "r.json", json.dumps(rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "r.parquet")
    (tmp_path / "texts").mkdir()
    for row in rows:
        write(tmp_path / "texts" / row["id"], row["context"])
    read = [list(Source(path, Document)) for path in (lines, whole, tmp_path / "r.parquet", tmp_path / "texts")]
    assert read[0] == read[1] == read[2] == read[3] and [row.id for row, _ in read[0]] == ["a.txt", "b.txt"]


def test_rows_without_id_are_named_by_content(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", '{"context": "a", "other": 1}\n{"context": "a", "other": 2}\n')
    (first, mark), (second, _) = Source(path, Document)
    assert first.id == mark[:16] != second.id


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"id": "a"}', r"line 1: context: Field required. A row needs: context. Nothing was sent"),
        ('{"context": ""}', "line 1: context: String should have at least 1 character"),
        ('{"id": "a", "context": "x"}\n{"id": "a", "context": "y"}', "line 2: id 'a' is that of line 1"),
        ('{"context": "x"}\n{"context": "x"}', "line 2: the content .there is no id. is that of line 1"),
        ('{"context": "x"}\n{"context": ', "r.jsonl:2 is not JSON"),
        (b'{"context": "caf\xe9"}', r"r.jsonl:1 is not UTF-8 \(byte 16 is 0xe9\).*iconv"),
        ("", "has no rows"),
        ('{"context": 5}\n' * 9, "and 6 more"),
        ('{"context": "' + "word " * 9000 + '"}', r"line 1: at least 5,\d* tokens long; the model takes 4,096"),
    ],
)
def test_faults_are_named_with_their_places(tmp_path: Path, text: str | bytes, wanted: str) -> None:
    with pytest.raises(GodwitError, match=wanted) as error:
        Source(write(tmp_path / "r.jsonl", text), Document, context=4096)
    assert "\n" not in str(error.value)


def test_files_that_are_no_input(tmp_path: Path) -> None:
    with pytest.raises(GodwitError, match="no such file"):
        Source(tmp_path / "none.jsonl", Document)
    with pytest.raises(GodwitError, match="is no input"):
        Source(write(tmp_path / "r.csv", "a"), Document)
    with pytest.raises(GodwitError, match="is not Parquet"):
        Source(write(tmp_path / "r.parquet", "a"), Document)
    with pytest.raises(GodwitError, match="is not a list of rows"):
        Source(write(tmp_path / "r.json", "{}"), Document)


def test_limit_and_a_few_spread_evenly(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", "".join(f'{{"context": "{n}"}}\n' for n in range(10)))
    assert [row.context for row, _ in Source(path, Document, limit=3)] == ["0", "1", "2"]
    source = Source(path, Document)
    assert source.num_rows == 10 and [row.context for row, _ in source.some(2)] == ["2", "7"]
    assert len(source.some(10)) == 10
