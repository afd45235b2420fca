"""Who leaves early frees pages; who comes too many is told so; a kill breaks nothing."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from godwit.base.errors import GodwitError
from godwit.serve.local import Endpoint, serving

LONG = {"prompt": "import os\n" * 40, "max_tokens": 8000, "ignore_eos": True}


def raw(endpoint: Endpoint, body: dict, path: str = "/v1/completions") -> socket.socket:
    """A connection that has sent a request and reads nothing yet."""
    host, port = endpoint.base_url.split("/")[2].split(":")
    connection = socket.create_connection((host, int(port)))
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {endpoint.api_key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)
    return connection


def until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_frees_its_pages(endpoint, metrics, idle, stream: bool) -> None:
    before = idle()
    with contextlib.closing(raw(endpoint, {**LONG, "stream": stream, "n": 2})) as connection:
        if stream:
            assert b"200 OK" in connection.recv(200)
        until(lambda: metrics()["godwit_running_choices"] == 2)
        assert metrics()["godwit_free_pages"] < before["godwit_pages"]
    after = idle()
    assert after["godwit_generated_tokens_total"] - before["godwit_generated_tokens_total"] < 8000


def test_requests_that_wait_are_cancelled_too(endpoint, metrics, idle) -> None:
    connections = [raw(endpoint, {**LONG, "n": 8}) for _ in range(4)]
    until(lambda: metrics()["godwit_waiting_choices"] >= 24)
    # 32 choices: all seats and all places in the queue are taken.
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    refused = httpx.post(f"{endpoint.base_url}/completions", json={"prompt": "x"}, headers=headers)
    assert refused.status_code == 429 and refused.json()["error"]["code"] == "queue_full"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    for connection in connections:
        connection.close()
    idle()


@pytest.fixture(scope="module")
def strict():
    with serving(
        "nano", name="tight", max_num_seqs=2, num_pages=40, request_seconds=2, write_seconds=0.5, pages=False,
    ) as found:  # fmt: skip
        yield found


def test_time_is_up(strict) -> None:
    headers = {"Authorization": f"Bearer {strict.api_key}"}
    late = httpx.post(f"{strict.base_url}/completions", json=LONG, headers=headers, timeout=60)
    assert late.status_code == 504 and "max_tokens" in late.json()["error"]["message"]
    with httpx.stream(
        "POST", f"{strict.base_url}/completions", json={**LONG, "stream": True}, headers=headers, timeout=60
    ) as response:
        lines = [line for line in response.iter_lines() if line]
    assert response.status_code == 200 and lines[-1] == "data: [DONE]"
    assert json.loads(lines[-2].removeprefix("data: "))["error"]["code"] == "timeout"
    base = strict.base_url.removesuffix("/v1")
    assert httpx.get(base + "/inspector", headers=headers).status_code == 404
    assert httpx.get(base + "/health").json() == {"status": "ok", "model": "tight"}


@pytest.mark.slow
def test_a_reader_that_takes_nothing_is_left() -> None:
    with serving("nano", max_num_seqs=2, num_pages=40, write_seconds=0.5) as endpoint:
        # Wide log-probabilities fill the connection's buffers within a few hundred tokens.
        connection = raw(endpoint, {**LONG, "stream": True, "logprobs": 60})
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        headers = {"Authorization": f"Bearer {endpoint.api_key}"}
        base = endpoint.base_url.removesuffix("/v1")

        def running() -> float:
            text = httpx.get(base + "/metrics", headers=headers).text
            return float(text.split("\ngodwit_running_choices ")[1].split("\n")[0])

        until(lambda: running() == 1)
        until(lambda: running() == 0, 120)
        connection.close()


def test_killed_while_streaming_and_started_again() -> None:
    for _ in range(2):
        with serving("nano", max_num_seqs=2, num_pages=8) as endpoint:
            connection = raw(endpoint, {"prompt": "import os\n", "max_tokens": 1000, "stream": True})
            assert b"200 OK" in connection.recv(1000)
            os.kill(endpoint.pid, signal.SIGKILL)
            with contextlib.suppress(ConnectionError):
                while connection.recv(65536):
                    pass
            connection.close()


def test_what_cannot_be_served() -> None:
    with pytest.raises(GodwitError, match="no such model folder: nanoo; did you mean 'nano'"), serving("nanoo"):
        pass


def test_a_server_ends_with_whoever_started_it() -> None:
    code = (
        "import os, time\nfrom godwit.serve.local import serving\n"
        "with serving('nano', num_pages=4) as endpoint:\n    print(endpoint.pid, flush=True)\n    time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()

    def gone() -> bool:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{child}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"

    until(gone, 90)
