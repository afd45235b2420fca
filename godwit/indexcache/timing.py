"""Times for comparing: everything in turn in one process, medians, and how much of a call is spent in which module.

On a machine that other programs use, wall time says more about them: `cpu` counts the processor time of this process
instead, which with one thread is what an idle machine would take.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from godwit.base.errors import GodwitError, did_you_mean
from godwit.base.progress import Progress

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class Stopwatch:
    """Reads one of `CLOCKS` after the device has finished what it was given.

    Args:
        clock: "wall" or "cpu".
    """

    def __init__(self, clock: str, *, device: torch.device | str = "cpu"):
        if clock not in CLOCKS:
            raise GodwitError(f"unknown clock {clock!r}: {did_you_mean(clock, CLOCKS)}")
        self._read = CLOCKS[clock]
        self._device = torch.device(device)

    def now(self) -> float:
        """Seconds since some moment."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._read()

    def time(self, run: Callable[[], object]) -> float:
        """Seconds of one call."""
        start = self.now()
        run()
        return self.now() - start


def interleaved(
    sides: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    watch: Stopwatch,
    on_run: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of every side, the sides in turn, `rounds` times; the order turns around every round."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        names = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for name in names:
            seconds[name].append(watch.time(sides[name]))
            on_run()
    return seconds


@contextmanager
def counting(total: int) -> Iterator[Callable[[], None]]:
    """Show progress over so many timed runs; what comes out is called after each."""
    with Progress(total, what="timing", unit="runs") as progress:
        yield lambda: progress.advance(1)


@contextmanager
def timed_methods(modules: Sequence[nn.Module], names: Sequence[str], watch: Stopwatch) -> Iterator[list[list[float]]]:
    """Seconds of each call of the methods `names` of each module, a list a module, for as long as the block lasts."""
    seconds: list[list[float]] = [[] for _ in modules]
    replaced: list[tuple[nn.Module, str]] = []
    try:
        for module, kept in zip(modules, seconds, strict=True):
            for name in names:
                # An instance's own attribute goes before its class's method, and `del` brings the method back.
                setattr(module, name, _timed(getattr(module, name), kept, watch))
                replaced.append((module, name))
        yield seconds
    finally:
        for module, name in replaced:
            delattr(module, name)


def _timed(method: Callable[..., object], kept: list[float], watch: Stopwatch) -> Callable[..., object]:
    def run(*args: object, **kwargs: object) -> object:
        start = watch.now()
        result = method(*args, **kwargs)
        kept.append(watch.now() - start)
        return result

    return run


def median(times: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(times)
