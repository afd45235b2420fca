"""What stays light: `godwit`, its command line's overview, and the floors that stand without torch."""

import json
import os
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import godwit

HEAVY = (
    "torch",
    "transformers",
    "numpy",
    "matplotlib",
    "pyarrow",
    "tokenizers",
    "tensorboard",
    "tyro",
    "rich",
    "scipy",
)
LIMIT_SECONDS = 0.3
ALLOWANCE = 3.0  # other work on the machine; the set of imported modules below is the sharp test


def heavy_after(code: str) -> list[str]:
    """Heavy modules that are loaded after a fresh interpreter has run `code`."""
    tail = f"\nimport sys, json\nprint(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def modules_below(floor: str) -> list[str]:
    folder = Path(godwit.__file__).parent / floor
    return [name for _, name, _ in pkgutil.walk_packages([str(folder)], f"godwit.{floor.replace('/', '.')}.")]


@pytest.mark.parametrize(
    "code",
    [
        "import godwit; godwit.__version__; dir(godwit)",
        "import godwit.cli",
        "from godwit.cli import main; main(['--help'])",
        "from godwit.cli import main; main(['--version'])",
        "from godwit.cli import main; main(['train', '--help'])",
    ],
)
def test_the_front_door_imports_no_library(code: str) -> None:
    loaded = heavy_after(code)
    if "train" in code:
        loaded = [name for name in loaded if name not in ("tyro", "rich")]
    assert loaded == []


@pytest.mark.parametrize("command", [[], ["recipes"], ["--json"]])
def test_listing_imports_no_torch(command: list[str]) -> None:
    loaded = heavy_after(f"from godwit.cli import main; assert main({['list', *command]!r}) == 0")
    assert set(loaded) <= {"tyro", "rich"}


@pytest.mark.parametrize("floor", ["base", "text", "rewards", "evals/metrics", "evals/harness", "evals/benchmarks"])
def test_base_and_text_and_benchmarks_stand_without_torch(floor: str) -> None:
    modules = modules_below(floor)
    assert modules
    loaded = heavy_after("\n".join(f"import {module}" for module in modules))
    assert not {"torch", "transformers", "matplotlib"} & set(loaded)


@pytest.mark.parametrize("arguments", [["-c", "import godwit.cli"], ["-m", "godwit", "--help"]])
def test_the_front_door_opens_in_300_ms(arguments: list[str]) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < LIMIT_SECONDS * ALLOWANCE


def test_public_names_are_found_where_they_live() -> None:
    assert godwit.GodwitError.__module__ == "godwit.base.errors"
    assert {"load", "save", "GodwitError", "__version__"} <= set(dir(godwit))
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        _ = godwit.lod
