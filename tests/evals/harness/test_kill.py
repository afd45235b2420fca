"""Killed in the middle of calls and started again, a benchmark has the same numbers and pays for no answer twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from godwit.base.journal import FILE_NAME
from godwit.evals.harness.result import read_outcomes, read_result
from tests.synth.endpoint import KEY, prompt_of, serving

pytest.importorskip("inspect_ai")
ROWS, CRITERIA, CONCURRENCY = 8, 5, 2
KILLS = 3


def reply(request: dict[str, Any]) -> str:
    """A text; from the judge a score that hangs on what is judged, by which rubric."""
    if request["model"] == "writer-1":
        return f"Text on {prompt_of(request)}"
    prompt = prompt_of(request)
    number, name = prompt.split("Write of ")[1].split(".")[0], prompt.split('rubric name="c')[1].split('"')[0]
    return json.dumps({"reason": "so", "score": 1 + (int(number) * 3 + int(name)) % 10})


def start(data: Path, out: Path, url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "godwit", "eval", "writingbench", "--data", str(data), "--out", str(out)]
    command += ["--model", url, "--model-name", "writer-1", "--judge", url, "--judge-name", "judge-1"]
    command += ["--concurrency", str(CONCURRENCY)]
    environment = os.environ | {"OPENAI_API_KEY": KEY, "XDG_DATA_HOME": str(out.parent / "inspect")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes]) -> None:
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 0, said.decode()


def result_of(out: Path) -> tuple[Any, ...]:
    result = read_result(out)
    return result.figures, result.costs, read_outcomes(out)


@pytest.mark.slow
def test_kill_9_in_the_middle_of_a_call(tmp_path: Path) -> None:
    checklist = [{"name": f"c{number}"} for number in range(CRITERIA)]
    rows = [{"index": number, "query": f"Write of {number}.", "checklist": checklist} for number in range(ROWS)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serving(reply) as endpoint:
        finish(start(data, tmp_path / "straight", endpoint.url))
        assert endpoint.num_served == ROWS * (1 + CRITERIA) and endpoint.paid_twice == 0
    chance, killed = random.Random(0), 0
    with serving(reply, delay=0.3) as endpoint:
        while killed < KILLS:
            before = endpoint.num_served
            process = start(data, tmp_path / "killed", endpoint.url)
            limit = time.monotonic() + 120
            while process.poll() is None and endpoint.num_served < before + 9 and time.monotonic() < limit:
                time.sleep(0.01)
            time.sleep(chance.random() * 0.3)
            assert process.poll() is None, "it ended before it could be killed"
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
        assert (tmp_path / "killed" / FILE_NAME).exists()
        finish(start(data, tmp_path / "killed", endpoint.url))
        # What was under way at a kill had not arrived: so much, and no more, is asked for again.
        assert len(endpoint.served) == ROWS * (1 + CRITERIA) and endpoint.paid_twice <= killed * CONCURRENCY
    assert result_of(tmp_path / "killed") == result_of(tmp_path / "straight")
    assert not (tmp_path / "killed" / FILE_NAME).exists()
