"""Compiled code on disk is used again only while nothing that it was made of has changed."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from godwit.ops import _numba_cache
from godwit.ops._share import blocks_left

KERNELS = [
    f"ops.{name}._kernel"
    for name in ("index_topk", "index_topk_paged", "index_two_level", "indexer_kl", "sparse_mla", "rotate")
]
KERNELS += ["nn.step._kernel", "nn.step._grouped"]
# Two modules of the package that are read from elsewhere: a loop, and the part that it calls.
PROGRAM = """
import importlib.util, sys
from pathlib import Path
import godwit.ops
def module(name):
    spec = importlib.util.spec_from_file_location(f"godwit.ops.{name}", Path(sys.argv[1]) / f"{name}.py")
    sys.modules[spec.name] = found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found
module("part")
loop = module("loop").loop
print(loop(1), sum(loop.stats.cache_hits.values()))
"""
PART = "from godwit.ops._numba import inner\n\n\n@inner\ndef add(x):\n    return x + {number}\n"
LOOP = "from godwit.ops._numba import njit\nfrom godwit.ops.part import add\n@njit\ndef loop(x):\n    return add(x)\n"


def test_a_loop_is_compiled_again_when_a_part_of_it_changes(tmp_path: Path) -> None:
    def run() -> str:
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout

    (tmp_path / "loop.py").write_text(LOOP)
    (tmp_path / "part.py").write_text(PART.format(number=1))
    assert run() == "2 0\n"
    assert run() == "2 1\n", "unchanged, so it is loaded"
    (tmp_path / "part.py").write_text(PART.format(number=5))
    assert run() == "6 0\n"


@pytest.mark.parametrize("name", KERNELS)
def test_every_loop_of_the_package_is_kept_this_way(name: str) -> None:
    kernel = importlib.import_module(f"godwit.{name}")
    # A generator is part of its callers only.
    loops = [loop for loop in vars(kernel).values() if hasattr(loop, "py_func") and loop is not blocks_left]
    assert loops
    for loop in loops:
        assert isinstance(loop._cache._impl.locator, _numba_cache._Stamped), loop


def test_parts_are_found_through_what_they_call() -> None:
    from godwit.ops.index_topk_paged import _kernel

    found = _numba_cache.sources(vars(_kernel))
    assert {f"godwit.ops.{name}" for name in ("index_topk._best", "index_topk._pack", "_lanes")} <= found


def test_loops_of_others_are_left_to_numba() -> None:
    def loop() -> None: ...

    assert _numba_cache.Locator.from_function(loop, __file__) is None
