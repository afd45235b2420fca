"""The input, checked from end to end before anything is paid for, then read again row by row so that memory stays flat.

JSON lines, a JSON list, Parquet, or a folder of .txt and .md files (each a row with `context` and the file's name as
id). Every fault is named by file and line.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from godwit.base.errors import GodwitError
from godwit.synth.endpoint import estimate_tokens, is_address
from godwit.synth.parse import faults_of
from godwit.synth.rows import Row, digest

FAULTS_SHOWN = 3
PARQUET_BATCH = 64


class Source:
    """Rows of type `cls` in the file or folder `path`.

    Args:
        limit: only the first so many rows; None for all.
        context: tokens the model takes; rows that are surely longer are a fault.

    Attributes:
        num_rows: how many there are.

    Raises:
        GodwitError: what is wrong with the input, with places.
    """

    def __init__(self, path: Path, cls: type[Row], *, limit: int | None = None, context: int | None = None):
        self.path = path
        self.cls = cls
        self.limit = limit
        self.num_rows = 0
        self._check(context)

    @property
    def folder(self) -> Path:
        """Where relative paths in the rows start."""
        return self.path if self.path.is_dir() else self.path.parent

    def __iter__(self) -> Iterator[tuple[Row, str]]:
        """Rows with a digest of all they had in the input, in the input's order."""
        for number, (_, data) in enumerate(self._raw()):
            if self.limit is not None and number >= self.limit:
                return
            mark = digest(data)
            row = self.cls.model_validate(data)
            yield (row if row.id else row.model_copy(update={"id": mark[:16]})), mark

    def some(self, count: int) -> list[tuple[Row, str]]:
        """`count` rows, spread evenly."""
        places = {(2 * index + 1) * self.num_rows // (2 * count) for index in range(count)}
        return [row for place, row in enumerate(self) if place in places]

    def _check(self, context: int | None) -> None:
        faults: list[str] = []
        seen: dict[str, str] = {}
        for number, (place, data) in enumerate(self._raw()):
            if self.limit is not None and number >= self.limit:
                break
            try:
                row = self.cls.model_validate(data)
            except ValidationError as error:
                faults.append(f"{place}: {faults_of(error)}")
                continue
            name = row.id or digest(data)[:16]
            if name in seen:
                same = f"id {name!r}" if row.id else "the content (there is no id)"
                faults.append(f"{place}: {same} is that of {seen[name]}")
            seen[name] = place
            lost = [name for name in row.files() if not is_address(name) and not (self.folder / name).is_file()]
            if lost:
                faults.append(f"{place}: no such file: {lost[0]}")
            # Half of the estimate: what is over even so does not fit, whatever the tokenizer.
            if context is not None and (size := _size(row) // 2) > context:
                faults.append(f"{place}: at least {size:,} tokens long; the model takes {context:,}")
            self.num_rows += 1
        if faults:
            more = f"; and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
            wanted = ", ".join(name for name, field in self.cls.model_fields.items() if field.is_required())
            raise GodwitError(
                f"{self.path}: {'; '.join(faults[:FAULTS_SHOWN])}{more}. A row needs: {wanted}. Nothing was sent"
            )
        if not self.num_rows:
            raise GodwitError(f"{self.path} has no rows; give JSON lines, a JSON list, Parquet or a folder of texts")

    def _raw(self) -> Iterator[tuple[str, Any]]:
        if self.path.is_dir():
            return _texts(self.path)
        if not self.path.exists():
            raise GodwitError(f"no such file: {self.path}")
        kinds = {".jsonl": _lines, ".ndjson": _lines, ".json": _list, ".parquet": _parquet}
        if self.path.suffix not in kinds:
            raise GodwitError(
                f"{self.path} is no input; give a .jsonl, .json or .parquet file, or a folder of .txt, .md"
            )
        return kinds[self.path.suffix](self.path)


def _size(row: Row) -> int:
    return sum(estimate_tokens(value) for value in row.model_dump().values() if isinstance(value, str))


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            text = _decoded(line, f"{path.name}:{number}")
            try:
                yield f"line {number}", json.loads(text.removeprefix("\ufeff"))
            except ValueError as error:
                raise GodwitError(f"{path}:{number} is not JSON ({error}); repair that line") from error


def _list(path: Path) -> Iterator[tuple[str, Any]]:
    text = _decoded(path.read_bytes(), path.name)
    try:
        rows = json.loads(text.removeprefix("\ufeff"))
    except ValueError as error:
        raise GodwitError(f"{path} is not JSON ({error}); JSON lines belong into a .jsonl file") from error
    if not isinstance(rows, list):
        raise GodwitError(f"{path} is not a list of rows; give [{{...}}, ...] or JSON lines")
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=PARQUET_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except pyarrow.ArrowException as error:
        raise GodwitError(f"{path} is not Parquet ({error}); make it anew") from error


def _texts(folder: Path) -> Iterator[tuple[str, Any]]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".txt", ".md") and path.is_file())
    for path in paths:
        name = path.relative_to(folder).as_posix()
        yield name, {"id": name, "context": _decoded(path.read_bytes(), name).removeprefix("\ufeff")}


def _decoded(data: bytes, place: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise GodwitError(
            f"{place} is not UTF-8 (byte {error.start} is 0x{data[error.start]:02x}); "
            "convert it, e.g. with iconv -t UTF-8"
        ) from error
