"""What docstrings show after `>>>` is what comes out."""

import doctest
import importlib
from pathlib import Path

import pytest

import godwit

ROOT = Path(godwit.__path__[0])
FILES = [path for path in sorted(ROOT.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_in_docstrings(path: Path) -> None:
    name = ".".join(("godwit", *path.relative_to(ROOT).with_suffix("").parts))
    found = doctest.testmod(importlib.import_module(name))
    assert not found.failed
