"""Files that are either whole or not there: write beside, flush to disk, rename into place."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from godwit.base.errors import GodwitError, RunStoppedError


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Write `content` to `path` so that a crash leaves either the old file or the new one, never half."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[IO[bytes]]:
    """Yield a file to write into; on success it is flushed and renamed to `path`, else `path` stays as it was."""
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise RunStoppedError(
            f"could not write {path}: {error.strerror or error}; what was there before is untouched"
        ) from error
    sync_folder(path.parent)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; a missing or broken one is a `GodwitError` that names the place of the fault."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise GodwitError(f"no such file: {path}") from error
    except UnicodeDecodeError as error:
        raise GodwitError(f"{path} is not text (byte {error.start}); a JSON file in UTF-8 is expected") from error
    except json.JSONDecodeError as error:
        raise GodwitError(
            f"{path} is not valid JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        ) from error


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`; on success it is flushed and renamed to `target`, else removed.

    An existing `target` is replaced only after the new one is complete.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        os.chmod(temporary, 0o755)
        replace_folder(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def replace_folder(source: Path, target: Path) -> None:
    """Rename `source` to `target`; an older `target` is moved aside first and removed last."""
    aside = target.with_name(f".{target.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        os.rename(target, aside)
    os.rename(source, target)
    sync_folder(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a power cut (nothing to do where unsupported)."""
    if os.name == "posix":
        _sync(folder)


def check_space(folder: str | Path, num_bytes: int, *, what: str) -> None:
    """Raise before a long write begins if `num_bytes` do not fit on the disk that holds `folder`."""
    folder = Path(folder)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise RunStoppedError(
            f"{what} needs {num_bytes / 1e6:,.0f} MB and {folder} has {free / 1e6:,.0f} MB free; "
            "make room or choose another folder, earlier files are untouched"
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def spelled(name: object) -> str:
    """A path as text that can be written: where the locale knows ASCII only, Python's form of it cannot."""
    return os.fsencode(str(name)).decode("utf-8", "replace")
