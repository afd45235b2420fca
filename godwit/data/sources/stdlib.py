"""The Python standard library's own sources: real code that is on every machine.

Left out: tests (they hold deliberately broken files), `encodings` and `pydoc_data` (tables made by scripts, a tenth
of all bytes), and installed packages. The files differ a little between Python versions; the manifest records hashes.
"""

import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from godwit.base.errors import GodwitError, did_you_mean
from godwit.data.document import Document, Row
from godwit.data.sources._files import MADE_FOLDERS, walk
from godwit.data.sources.text import read_file
from godwit.data.spec import SourceSpec

OPTIONS = {"only": "top-level modules or packages to read, e.g. json,asyncio"}
NEEDS_PATH = False
EXAMPLE = "stdlib"

LEFT_OUT = MADE_FOLDERS | {"test", "tests", "idle_test", "encodings", "pydoc_data"}


def num_bytes(spec: SourceSpec, lists: Mapping[str, Sequence[str]]) -> int:
    """Bytes of all files that will be read."""
    return sum(file.stat().st_size for file in _files(spec))


def rows(spec: SourceSpec, lists: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    """One document a module, sorted by path; provenance is relative to the library's folder."""
    root = _root()
    for file in _files(spec):
        row, name = read_file(file), f"stdlib/{file.relative_to(root).as_posix()}"
        yield Document(row.text, name, row.line) if isinstance(row, Document) else row._replace(file=name)


@cache
def code_lines() -> tuple[str, ...]:
    """All lines that hold something, each with its line end: hay to hide things in (`godwit.data.recall`)."""
    spec = SourceSpec(text=EXAMPLE, kind=EXAMPLE, path="")
    texts = (row.text for row in rows(spec, {}) if isinstance(row, Document))
    lines = (line for text in texts for line in text.splitlines(keepends=True) if line.strip())
    return tuple(line if line.endswith("\n") else line + "\n" for line in lines)


def _root() -> Path:
    root = Path(sysconfig.get_path("stdlib"))
    if not (root / "json" / "__init__.py").is_file():
        raise GodwitError(
            f"data source 'stdlib': this Python ({sys.executable}) has no library sources in {root}; "
            "use a folder of text"
        )
    return root


def _files(spec: SourceSpec) -> list[Path]:
    root = _root()
    files = [file for file in walk(root, leave_out=LEFT_OUT) if file.suffix == ".py"]
    if "only" not in spec.options:
        return files
    tops = {file.relative_to(root).parts[0].removesuffix(".py") for file in files}
    wanted = {name.strip() for name in spec.options["only"].split(",")}
    for name in sorted(wanted - tops):
        raise GodwitError(f"data source {spec.text!r}: no module {name!r}; {did_you_mean(name, tops)}")
    return [file for file in files if file.relative_to(root).parts[0].removesuffix(".py") in wanted]
