"""Killed at random points and started again, a run ends in the same bytes and pays for nothing twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.synth import endpoint as scripted
from tests.synth.harness import RESULTS, write_rows
from tests.synth.pipelines import test_agentwrite, test_longreward

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


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_kill_9_at_random_points(tmp_path: Path, seed: int) -> None:
    rows = [{"id": f"t{number}", "instruction": f"Write {seed}/{number}.", "length": 200} for number in range(16)]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    check(
        "agentwrite", source, test_agentwrite.answer, "--timeout", "0.6", num_calls=16 * 5, chance=random.Random(seed)
    )


def test_kill_9_while_a_row_asks_several_things_at_once(tmp_path: Path) -> None:
    given = test_longreward.GIVEN
    rows = [test_longreward.row(id=f"q{number}", query=f"Who, {number}?", responses=given) for number in range(4)]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    # A row: its points, and of 4 different answers 3 ratings and a list of facts; the 6 facts are those of all rows.
    check(
        "longreward",
        source,
        test_longreward.reply,
        *("--judge-model", "judge-1", "--timeout", "6"),  # reading bm25s holds everything up for a moment
        num_calls=4 * (1 + 4 * 4) - 3 * 4 + 6 + 3 * 4,
        chance=random.Random(0),
    )


def check(
    name: str,
    source: Path,
    answer: Callable[[dict[str, Any]], Any],
    *words: str,
    num_calls: int,
    chance: random.Random,
) -> None:
    """A run that is killed again and again ends as one that is not, and pays for no answer twice that it had."""
    straight, killed_out = source.parent / "straight", source.parent / "killed"
    with scripted.serving(answer, faults=0.2, delay=0.05) as served:
        finish(start(name, source, straight, served.url, *words))
        assert served.paid_twice == 0 and served.num_served == num_calls
    with scripted.serving(answer, faults=0.2, delay=0.05) as served:
        killed = 0
        while killed < KILLS:
            before = served.num_served
            process = start(name, source, killed_out, served.url, *words)
            # Until it has got some answers of its own, then a moment longer.
            limit = time.monotonic() + 60
            while process.poll() is None and served.num_served < before + 8 and time.monotonic() < limit:
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
