"""Results on disk: `data.jsonl` (or Parquet) and `rejected.jsonl`, sorted by row: the same bytes every time.

Rows are spooled as they are done, with only their places in memory, and copied in order at the end.
"""

import json
import re
import tempfile
import typing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, TracebackType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from godwit.base.files import atomic_file
from godwit.synth.rows import Row
from godwit.synth.walk import Outcome

Format = Literal["jsonl", "parquet"]
REJECTED = "rejected.jsonl"
PARQUET_BATCH = 256
LONGEST_GENERAL = 160


class Spool:
    """Outcomes in the order they come; a context manager whose file goes with it.

    Attributes:
        num_kept, num_rejected: outcomes so far.
        reasons: how often each (status, stage, reason) occurred, numbers in reasons left out.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.reasons: Counter[tuple[str, str, str]] = Counter()
        self._kept: list[tuple[tuple[str, tuple[int, ...]], int, int]] = []
        self._rejected: list[tuple[tuple[str, tuple[int, ...]], int, int]] = []
        self._end = 0

    def __enter__(self) -> "Spool":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=self.folder, prefix=".spool.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def num_kept(self) -> int:
        """Rows that became data."""
        return len(self._kept)

    @property
    def num_rejected(self) -> int:
        """Rows that did not."""
        return len(self._rejected)

    def add(self, outcome: Outcome) -> None:
        """Take one in."""
        line = (json.dumps(outcome.record, ensure_ascii=False) + "\n").encode()
        index = self._kept if outcome.kept else self._rejected
        index.append(((outcome.source_id, outcome.path), self._end, len(line)))
        self._file.write(line)
        self._end += len(line)
        if not outcome.kept:
            record = outcome.record
            self.reasons[(record["status"], record["stage"], _general(record["reason"]))] += 1

    def lines(self, *, kept: bool) -> Iterator[bytes]:
        """All of one kind, sorted by row."""
        for _, start, length in sorted(self._kept if kept else self._rejected):
            self._file.seek(start)
            yield self._file.read(length)
        self._file.seek(self._end)

    def num_failed(self) -> int:
        """Rows that the same command would try again."""
        return sum(count for (status, _, _), count in self.reasons.items() if status == "failed")


def write_rows(spool: Spool, folder: Path, *, kind: Format, final: type[Row]) -> Path:
    """Write both files; returns the data's path. An older file of the other kind is removed."""
    for other in ("jsonl", "parquet"):
        if other != kind:
            (folder / f"data.{other}").unlink(missing_ok=True)
    path = folder / f"data.{kind}"
    if kind == "jsonl":
        with atomic_file(path) as file:
            file.writelines(spool.lines(kept=True))
    else:
        _write_parquet(spool.lines(kept=True), path, final)
    with atomic_file(folder / REJECTED) as file:
        file.writelines(spool.lines(kept=False))
    return path


def _write_parquet(lines: Iterator[bytes], path: Path, final: type[Row]) -> None:
    import pyarrow
    import pyarrow.parquet

    origin = {"pipeline": str, "pipeline_version": int, "models": dict, "seed": int, "source_id": str}
    origin |= {"source_hash": str, "prompt_hashes": list[str]}
    fields = [(name, _arrow(field.annotation)) for name, field in final.model_fields.items()]
    provenance = pyarrow.struct([(name, _arrow(kind)) for name, kind in origin.items()])
    schema = pyarrow.schema([*fields, ("provenance", provenance)])
    with atomic_file(path) as file, pyarrow.parquet.ParquetWriter(file, schema) as writer:
        batch: list[dict[str, Any]] = []
        for line in lines:
            batch.append(_fitted(json.loads(line), schema))
            if len(batch) == PARQUET_BATCH:
                writer.write_table(pyarrow.Table.from_pylist(batch, schema))
                batch = []
        writer.write_table(pyarrow.Table.from_pylist(batch, schema))


def _arrow(hint: Any) -> Any:
    """The Arrow type of an annotation; what has none of its own (dicts, say) is JSON text."""
    import pyarrow

    simple = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    if hint in simple:
        return simple[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType) and len(inner := [kind for kind in arguments if kind is not NoneType]) == 1:
        return _arrow(inner[0])
    if origin is list or (origin is tuple and arguments[1:] == (Ellipsis,)):
        return pyarrow.list_(_arrow(arguments[0]))
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return pyarrow.struct([(name, _arrow(field.annotation)) for name, field in hint.model_fields.items()])
    if typing.is_typeddict(hint):
        return pyarrow.struct([(name, _arrow(kind)) for name, kind in typing.get_type_hints(hint).items()])
    return pyarrow.string()


def _fitted(value: Any, kind: Any) -> Any:
    """JSON values as an Arrow type takes them."""
    import pyarrow

    if isinstance(kind, (pyarrow.Schema, pyarrow.StructType)) and isinstance(value, dict):
        return {field.name: _fitted(value.get(field.name), field.type) for field in kind}
    if isinstance(value, list) and isinstance(kind, pyarrow.ListType):
        return [_fitted(item, kind.value_type) for item in value]
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return value


def _general(reason: str) -> str:
    """The reason without its numbers: reasons that differ in nothing else are counted together."""
    return re.sub(r"\d+", "#", reason)[:LONGEST_GENERAL]
