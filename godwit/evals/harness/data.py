"""A benchmark's rows, checked before anything is asked: from a local file or from a Hugging Face data set.

    FILE.jsonl, FILE.json, FILE.parquet        one object a line, one list of objects, or a table
    hf:OWNER/NAME@REVISION[:FILE]              a file of a data set at a commit (40 hex digits), never at a branch

Every fault is named by file and row: not UTF-8, not JSON, a missing or mistyped field, an id that comes twice.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from godwit.base.errors import GodwitError

RowT = TypeVar("RowT", bound=BaseModel)
HUB = "hf:"
_ADDRESS = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<file>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Rows(Generic[RowT]):
    """Rows by id, in the file's order, where they are from, the hash of the file's bytes, and its folder."""

    by_id: dict[str, RowT]
    source: str
    digest: str
    folder: Path


def read_rows(source: str, row: type[RowT], *, id_field: str | None, file: str) -> Rows[RowT]:
    """All rows of `source`.

    Args:
        row: a pydantic model of one row; other fields of the file are ignored.
        id_field: the row's id, text or a whole number; where it is empty, the row's place from 0. None where the data
            set has none and rows need not be in order: the hash of the row's fields.
        file: the data set's usual file, where an `hf:` source names none.
    """
    path = _fetched(source, file) if source.startswith(HUB) else Path(source)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise GodwitError(
            f"could not read {source}: {error.strerror or error}; give a JSON, JSONL or Parquet file"
        ) from error
    by_id: dict[str, RowT] = {}
    objects = _table(path, source) if path.suffix == ".parquet" else _objects(content, source)
    for number, (place, value) in enumerate(objects):
        checked = _checked(value, row, place)
        if id_field is None:
            name = _hash(checked.model_dump_json().encode())[:12]
        else:
            name = str(getattr(checked, id_field)) or str(number)
        if name in by_id:
            what = "the same row" if id_field is None else f"{id_field} {name!r}"
            raise GodwitError(f"{place}: {what} comes twice; ids must differ, or runs cannot be paired")
        by_id[name] = checked
    if not by_id:
        raise GodwitError(f"{source} has no rows; give a file with at least one")
    return Rows(by_id, source, _hash(content), path.parent)


def number_is_a_name(value: Any) -> Any:
    """Before validation of an id: data sets that number their rows, beside those that name them."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _objects(content: bytes, source: str) -> list[tuple[str, Any]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise GodwitError(f"{source}:{line} is not UTF-8 (byte {error.start}); convert the file to UTF-8") from error
    if text.lstrip().startswith("["):
        found = _parsed(text, source)
        return [(f"{source}, item {number}", item) for number, item in enumerate(found, start=1)]
    lines = ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
    return [(f"{source}:{number}", _parsed(line, f"{source}:{number}")) for number, line in lines]


def _table(path: Path, source: str) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(batch_size=64) for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                yield f"{source}, row {number}", row
    except pyarrow.ArrowException as error:
        raise GodwitError(f"{source} is not a Parquet file ({str(error).splitlines()[0]})") from error


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise GodwitError(f"{place} is not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from error
    except RecursionError as error:
        raise GodwitError(f"{place} is nested too deeply to be a row") from error


def _checked(value: Any, row: type[RowT], place: str) -> RowT:
    if not isinstance(value, dict):
        raise GodwitError(f"{place} is not an object with fields; a row is {_wanted(row)}")
    try:
        return row.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "row"
        raise GodwitError(f"{place}: {where}: {first['msg'].lower()}; a row is {_wanted(row)}") from error


def _wanted(row: type[BaseModel]) -> str:
    return "{" + ", ".join(field.alias or name for name, field in row.model_fields.items()) + "}"


def _fetched(source: str, file: str) -> Path:
    """The file of a data set, from the hub's cache on this machine or from the hub."""
    found = _ADDRESS.fullmatch(source)
    if found is None:
        raise GodwitError(f"{source!r} is no data set; write hf:OWNER/NAME@COMMIT or hf:OWNER/NAME@COMMIT:FILE")
    revision = found["revision"]
    if revision is None or not _COMMIT.fullmatch(revision):
        raise GodwitError(
            f"{source!r} is not pinned; write hf:{found['name']}@COMMIT with the commit's 40 hex digits (branches move)"
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    name = found["file"] or file
    try:
        return Path(hf_hub_download(found["name"], name, repo_type="dataset", revision=revision))
    except LocalEntryNotFoundError as error:
        raise GodwitError(
            f"{source}: the hub cannot be reached and {name} is not in its cache here; give --data FILE instead"
        ) from error
    except HfHubHTTPError as error:
        raise GodwitError(
            f"{source}: the hub has no {name} there ({type(error).__name__}); check name, commit, file"
        ) from error


def first_rows(rows: Rows[RowT], limit: int | None) -> list[tuple[str, RowT]]:
    """The first `limit` rows (all for None) with their ids."""
    pairs: Sequence[tuple[str, RowT]] = list(rows.by_id.items())
    if limit is not None and limit < 1:
        raise GodwitError(f"limit is {limit}; give at least 1")
    return list(pairs[:limit])
