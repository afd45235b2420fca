"""Killed at random points and started again, a run ends in the same bytes and pays for nothing twice."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.synth import endpoint as scripted
from tests.synth.harness import RESULTS, write_rows
from tests.synth.pipelines.test_agentwrite import answer

CONCURRENCY = 4
KILLS = 5


def start(source: Path, out: Path, url: str, *words: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OPENAI_API_KEY": scripted.KEY}
    command = [sys.executable, "-m", "godwit", "synth", "agentwrite", "--input", str(source), "--out", str(out)]
    command += ["--endpoint", url, "--model", "writer-1", "--concurrency", str(CONCURRENCY), "--timeout", "60", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes]) -> str:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said.decode()
    return said.decode()


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_kill_9_at_random_points(tmp_path: Path, seed: int) -> None:
    rows = [{"id": f"t{number}", "instruction": f"Write {seed}/{number}.", "length": 200} for number in range(16)]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    with scripted.serving(answer, faults=0.2, delay=0.05) as served:
        finish(start(source, tmp_path / "straight", served.url))
        assert served.paid_twice == 0 and served.num_served == 16 * 5
    chance = random.Random(seed)
    with scripted.serving(answer, faults=0.2, delay=0.05) as served:
        killed = 0
        while killed < KILLS:
            before = served.num_served
            process = start(source, tmp_path / "killed", served.url)
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
        said = finish(start(source, tmp_path / "killed", served.url))
        # What was under way at a kill had not arrived yet: so much, and no more, is asked for again.
        assert served.paid_twice <= killed * CONCURRENCY, said
        assert len(served.served) == 16 * 5
    for name in RESULTS:
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name
