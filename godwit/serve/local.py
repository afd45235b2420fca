"""A server in a child process, for as long as a block runs: for pipelines, benchmarks and tests.

    with serving("nano", max_num_seqs=8) as endpoint:
        client = openai.OpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key)

The child takes a free port of this machine and a key of its own, and ends when the block does; if this process is
killed, it ends too, because its stdin does.
"""

import os
import secrets
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from godwit.base.errors import GodwitError, RunStoppedError

# A first start compiles loops: a minute of one core, and many where others want it too. A child that ends is noticed.
START_SECONDS = 900.0
STOP_SECONDS = 40.0
FIRST_START = "starting its server; the first time on a machine that takes a minute or more, while loops are compiled"
_LOG_TAIL = 2000  # characters of the child's log that an error shows


@dataclass(frozen=True)
class Endpoint:
    """What an OpenAI client is given."""

    base_url: str
    api_key: str
    model: str
    pid: int


@contextmanager
def serving(model: str = "nano", **options: Any) -> Iterator[Endpoint]:
    """Serve a model while the block runs.

    Args:
        model: what `godwit serve` takes: a folder, a finished run, a bundled model's name.
        options: its options, underscores for hyphens, e.g. `max_num_seqs=8, deterministic=True`; None is left out.

    Raises:
        GodwitError: the server refuses the model or an option.
        RunStoppedError: it did not come up.
    """
    key = secrets.token_urlsafe(24)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "godwit", "serve", model, "--port", "0", "--until-stdin-closes", *_flags(options)],
            env={**os.environ, "GODWIT_API_KEY": key},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            url, name = _hello(child, log)
            yield Endpoint(f"{url}/v1", key, name, child.pid)
        finally:
            _stop(child)


def _flags(options: dict[str, Any]) -> list[str]:
    flags: list[str] = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            flags += [f"--{flag}", str(value)]
    return flags


def _hello(child: "subprocess.Popen[str]", log: Any) -> tuple[str, str]:
    """Address and model's name from the one line that the child prints when it answers."""
    assert child.stdout is not None, "it is a pipe"
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        ready, _, _ = select.select([child.stdout], [], [], 0.2)
        line = child.stdout.readline() if ready else ""
        if line:
            url, _, rest = line.partition("  serves ")
            return url, rest.partition(" (")[0]
        if child.poll() is not None:
            log.seek(0)
            said = log.read().strip()
            if child.returncode == GodwitError.exit_code:
                raise GodwitError(said.splitlines()[-1].removeprefix("godwit: "))
            raise RunStoppedError(f"the server ended with code {child.returncode}: {said[-_LOG_TAIL:]}")
    raise RunStoppedError(f"the server did not answer within {START_SECONDS:g} s; see whether the machine is busy")


def _stop(child: "subprocess.Popen[str]") -> None:
    """End the child: gently, then by force."""
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
