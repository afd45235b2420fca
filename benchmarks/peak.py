"""Memory that a piece of work needs, as Linux counts it."""

from collections.abc import Callable
from pathlib import Path


def peak_bytes(work: Callable[[], object]) -> int:
    """High-water mark of this process while it does `work`, less what was resident before.

    Not `ru_maxrss`: that is never reset, and a new process begins with its parent's.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark is what is resident now
    before = _status("VmRSS")
    work()
    return max(0, _status("VmHWM") - before)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
