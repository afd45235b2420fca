"""Killed at random points and started again, a run ends in the same bytes and pays for nothing twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from godwit.synth.pipeline import ROOM
from tests.synth import endpoint as scripted
from tests.synth.harness import RESULTS, write_rows
from tests.synth.pipelines import (
    test_agentwrite,
    test_iterdpo,
    test_longcite_cof,
    test_longreward,
    test_longwriter_v,
    test_selfinstruct_longqa,
    test_superwriter,
    test_superwriter_dpo,
)

CONCURRENCY = 4
KILLS = 5


def start(name: str, source: Path, out: Path, url: str, *words: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OPENAI_API_KEY": scripted.KEY}
    command = [sys.executable, "-m", "godwit", "synth", name, "--input", str(source), "--out", str(out)]
    command += ["--endpoint", url, "--model", "writer-1", "--concurrency", str(CONCURRENCY), *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes]) -> str:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said.decode()
    return said.decode()


class Case(NamedTuple):
    """A run to be killed: rows for a folder (files that they name are put there), who answers, what else to type.

    `num_calls` is what it takes, where that is plain to see.
    """

    rows: Callable[[Path], list[dict[str, Any]]]
    answer: Callable[[dict[str, Any]], Any]
    words: tuple[str, ...] = ()
    num_calls: int | None = None


def numbered(count: int, **fields: str) -> Callable[[Path], list[dict[str, Any]]]:
    """Rows whose fields have the row's number in place of `#`."""
    names = [
        {"id": f"r{number}"} | {k: v.replace("#", str(number)) for k, v in fields.items()} for number in range(count)
    ]
    return lambda folder: names


def scripts(folder: Path) -> list[dict[str, Any]]:
    return [test_iterdpo.script(folder, id=f"s{n}", instruction=f"Write {n}.") for n in range(16)]


def pictures(folder: Path) -> list[dict[str, Any]]:
    rows = test_longwriter_v.rows_with_pictures(folder)
    more = [{"id": f"l{n}", "images": ["blue.png"], "instruction": f"Write a long essay, {n}."} for n in range(10)]
    return [*rows, *more]


def questions(folder: Path) -> list[dict[str, Any]]:
    given = test_longreward.GIVEN
    return [test_longreward.row(id=f"q{n}", query=f"Who, {n}?", responses=given) for n in range(4)]


def documents(folder: Path) -> list[dict[str, Any]]:
    return [{"id": f"d{n}", "context": test_longcite_cof.document(f"d{n}")} for n in range(9)]


JUDGED = ("--judge-model", "judge-1")
TREE = ("--plans", "2", "--drafts", "2", "--refinements", "2", "--no-check-lengths")
CASES = {
    "agentwrite": Case(numbered(16, instruction="Write #."), test_agentwrite.answer, num_calls=16 * 5),
    "iterdpo": Case(scripts, test_iterdpo.answer, num_calls=16 * 3),
    "longcite_cof": Case(documents, test_longcite_cof.answer, num_calls=9 * 5),
    # A row: its points, and of 4 different answers 3 ratings and a list of facts; the 6 facts are those of all rows.
    "longreward": Case(questions, test_longreward.reply, JUDGED, num_calls=4 * (1 + 4 * 4) - 3 * 4 + 6 + 3 * 4),
    "longwriter_v": Case(pictures, test_longwriter_v.answer),
    "selfinstruct_longqa": Case(
        numbered(24, context="Document #. " * 20), test_selfinstruct_longqa.answer, num_calls=24 * 2
    ),
    "superwriter": Case(numbered(3, instruction="Write #."), test_superwriter.answer, num_calls=3 * 21 - 2),
    "superwriter_dpo": Case(
        numbered(1, instruction="Write it."), test_superwriter_dpo.answer, (*JUDGED, *TREE), num_calls=159
    ),
}
# Two here; `make test-all` kills all of them.
QUICK = {"agentwrite", "longreward"}


def test_every_pipeline_has_a_case() -> None:
    assert sorted(CASES) == ROOM.names()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in sorted(CASES)]
)
def test_kill_9_at_random_points(tmp_path: Path, name: str) -> None:
    check(name, CASES[name], tmp_path, chance=random.Random(name))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_at_other_points(tmp_path: Path, seed: int) -> None:
    check("agentwrite", CASES["agentwrite"], tmp_path, chance=random.Random(seed))


def check(name: str, case: Case, folder: Path, *, chance: random.Random) -> None:
    """A run that is killed again and again ends as one that is not, and pays for no answer twice that it had."""
    source = write_rows(folder / "rows.jsonl", case.rows(folder))
    straight, killed_out = folder / "straight", folder / "killed"
    # Longer than reading bm25s and jieba holds everything up.
    words = ("--timeout", "6", *case.words)
    with scripted.serving(case.answer, faults=0.2, delay=0.05) as served:
        finish(start(name, source, straight, served.url, *words))
        num_calls = served.num_served
        assert served.paid_twice == 0 and case.num_calls in (None, num_calls)
    with scripted.serving(case.answer, faults=0.2, delay=0.05) as served:
        killed = 0
        while killed < KILLS:
            before = served.num_served
            process = start(name, source, killed_out, served.url, *words)
            # Until it has got some answers of its own, then a moment longer.
            limit = time.monotonic() + 60
            while process.poll() is None and served.num_served < before + num_calls // 10 and time.monotonic() < limit:
                time.sleep(0.005)
            time.sleep(chance.random() * 0.2)
            if process.poll() is not None:
                break
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
        assert killed >= 2
        said = finish(start(name, source, killed_out, served.url, *words))
        # What was under way at a kill had not arrived yet: so much, and no more, is asked for again.
        assert served.paid_twice <= killed * CONCURRENCY, said
        assert len(served.served) == num_calls
    for file in RESULTS:
        assert (straight / file).read_bytes() == (killed_out / file).read_bytes(), file
