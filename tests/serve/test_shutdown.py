"""SIGTERM: nothing new is taken, what runs is finished or told that it is not, and the server ends with 0."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


@contextmanager
def server(log: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server without a key, and its address; its log goes to a file."""
    with log.open("w") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "godwit", "serve", "nano", "--port", "0", *options],
            stdout=subprocess.PIPE, stderr=file, text=True,
        )  # fmt: skip
        try:
            yield child, child.stdout.readline().split()[0]
        finally:
            child.kill()
            child.wait()


def until_nobody_listens(base: str) -> list[httpx.Response]:
    """Ask for new work until the connection is refused; the 503s on the way there."""
    refusals = []
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            with httpx.stream("POST", f"{base}/v1/completions", json={"prompt": "x"}, timeout=20) as response:
                response.read()
                assert response.status_code == 503, response.text
                refusals.append(response)
        except httpx.TransportError:
            return refusals
    raise AssertionError(f"still listening after {len(refusals)} refusals")


def test_running_requests_finish_and_the_log_holds_no_texts(tmp_path: Path) -> None:
    with server(tmp_path / "log", "--num-pages", "4") as (child, base):
        # No key is set, so only names of this machine are answered.
        rebound = httpx.get(f"{base}/v1/models", headers={"Host": "evil.example:80"})
        assert rebound.status_code == 403 and "evil.example" in rebound.json()["error"]["message"]
        body = {"prompt": "secret words", "max_tokens": 200, "ignore_eos": True, "stream": True}
        with httpx.stream("POST", f"{base}/v1/completions", json=body, timeout=120) as response:
            lines = response.iter_lines()
            told = [next(lines)]
            child.send_signal(signal.SIGTERM)
            refusals = until_nobody_listens(base)
            told += lines
        told = [line for line in told if line]
        assert told[-1] == "data: [DONE]" and json.loads(told[-2][6:])["choices"][0]["finish_reason"] == "length"
        assert child.wait(60) == 0
    for refused in refusals:
        error = refused.json()["error"]
        assert error["code"] == "shutting_down" and 1 <= int(refused.headers["retry-after"]) <= 30
    text = (tmp_path / "log").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    (row,) = [row for row in rows if row.get("path") == "/v1/completions" and row["status"] == 200]
    assert row["completion_tokens"] == 200 and row["prompt_tokens"] > 0
    assert 0 < row["first_token_seconds"] <= row["seconds"]
    assert "secret" not in text


def test_answers_that_take_longer_are_told(tmp_path: Path) -> None:
    """A stream ends with an error and `[DONE]`, a whole answer is 503; no traceback."""
    body = {"prompt": "import os", "max_tokens": 15_000, "ignore_eos": True}
    whole: list[httpx.Response] = []
    with server(tmp_path / "log", "--drain-seconds", "0.5") as (child, base):
        url = f"{base}/v1/completions"
        asking = threading.Thread(target=lambda: whole.append(httpx.post(url, json=body, timeout=120)))
        asking.start()
        with httpx.stream("POST", url, json={**body, "stream": True}, timeout=120) as response:
            lines = response.iter_lines()
            next(lines)
            while "\ngodwit_running_choices 2" not in httpx.get(f"{base}/metrics").text:
                time.sleep(0.02)
            child.send_signal(signal.SIGTERM)
            told = [line for line in lines if line]
        asking.join()
        assert child.wait(60) == 0
    assert told[-1] == "data: [DONE]" and json.loads(told[-2][6:])["error"]["code"] == "shutting_down"
    assert whole[0].status_code == 503 and whole[0].headers["retry-after"] == "1"
    log = (tmp_path / "log").read_text()
    rows = [json.loads(line) for line in log.splitlines()]
    assert [row["ended"] for row in rows if row.get("path") == "/v1/completions"] == ["shut_down"] * 2
    assert "Traceback" not in log
