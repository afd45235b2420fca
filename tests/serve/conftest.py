"""One server of the bundled nano for all tests of this room: a real child process behind real sockets."""

import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from godwit.serve.local import Endpoint, serving


@pytest.fixture(scope="session")
def endpoint() -> Iterator[Endpoint]:
    with serving("nano", max_num_seqs=8, num_pages=64, max_queue=24) as found:
        yield found


@pytest.fixture(scope="session")
def http(endpoint: Endpoint) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    with httpx.Client(base_url=endpoint.base_url.removesuffix("/v1"), headers=headers, timeout=120) as client:
        yield client


@pytest.fixture
def metrics(http: httpx.Client) -> Callable[[], dict[str, float]]:
    """Reads the server's metrics without labels."""

    def read() -> dict[str, float]:
        lines = [line for line in http.get("/metrics").text.splitlines() if line and line[0] != "#" and "{" not in line]
        return {name: float(value) for name, value in (line.split() for line in lines)}

    return read


@pytest.fixture
def idle(metrics) -> Callable[[], dict[str, float]]:
    """Waits until nothing runs and every page is free again."""

    def wait() -> dict[str, float]:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = metrics()
            if not found["godwit_running_choices"] and not found["godwit_waiting_choices"]:
                assert found["godwit_free_pages"] == found["godwit_pages"]
                return found
            time.sleep(0.05)
        raise AssertionError(f"still at work: {found}")

    return wait
