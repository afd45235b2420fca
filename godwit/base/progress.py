"""Progress of long work: a bar with rate and time left on a terminal, a plain line now and then on a pipe.

Drawn on stderr, so that what a command prints on stdout stays clean. It measures the rate over the last half minute
of this process; work done before a resume is counted in the bar (`start`) and not in the rate. Nor is the first step,
which compiles and allocates and can take a hundred times as long as the others: better no time left than a wrong one.
"""

import sys
import time
from collections import deque
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_REDRAWS = 0.1
RATE_WINDOW_SECONDS = 30.0


class Progress:
    """A context manager for one long job.

    >>> with Progress(1000, what="training", unit="tokens") as progress:  # doctest: +SKIP
    ...     progress.advance(100, loss=2.1)

    Args:
        total: units of work in the whole job; None if it is not known.
        what: what is being done, one or two words.
        unit: what is counted, in the plural.
        start: units that were done before (a resumed job).
        silent: show nothing (ranks other than the first).
        stream: where to draw; stderr if None.
    """

    def __init__(
        self,
        total: float | None,
        *,
        what: str = "training",
        unit: str = "tokens",
        start: float = 0,
        silent: bool = False,
        stream: TextIO | None = None,
    ):
        self.total = total
        self.what = what
        self.unit = unit
        self.done = start
        self.silent = silent
        self.stream = sys.stderr if stream is None else stream
        self.figures: dict[str, float | str] = {}
        self._bar: RichProgress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> "Progress":
        now = time.monotonic()
        self._started = self._shown_at = now
        self._first_done = self.done
        self._samples: deque[tuple[float, float]] = deque()
        if not self.silent and self.stream.isatty():
            console = Console(file=self.stream)
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
            self._bar = RichProgress(*columns, console=console)
            self._task = self._bar.add_task(self.what, total=self.total, completed=int(self.done), text="")
            self._bar.start()
        return self

    def advance(self, n: float, **figures: float | str) -> None:
        """Count `n` more units and remember `figures` (e.g. `loss=2.1`) to be shown beside the bar."""
        self.done += n
        self.figures.update(figures)
        now = time.monotonic()
        self._samples.append((now, self.done))
        while len(self._samples) > 2 and self._samples[0][0] < now - RATE_WINDOW_SECONDS:
            self._samples.popleft()
        pause = SECONDS_BETWEEN_LINES if self._bar is None else SECONDS_BETWEEN_REDRAWS
        if not self.silent and now - self._shown_at >= pause:
            self._show(now)

    def note(self, text: str) -> None:
        """Print a line of its own, above the bar if there is one."""
        if self.silent:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.stream, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.silent:
            return
        elapsed = max(time.monotonic() - self._started, 1e-9)
        if self._bar is not None:
            self._show(time.monotonic())
            self._bar.stop()
            return
        rate = (self.done - self._first_done) / elapsed
        end = "done" if error is None else "stopped"
        parts = [f"{self._counted()} in {short_time(elapsed)}", f"{short_number(rate)} {self.unit}/s", *self._texts()]
        print(f"{self.what} {end}: " + ", ".join(parts), file=self.stream, flush=True)

    def rate(self) -> float:
        """Units per second over the last half minute; 0 before the second step."""
        if not self._samples:
            return 0.0
        (first_time, first_done), (last_time, last_done) = self._samples[0], self._samples[-1]
        return (last_done - first_done) / (last_time - first_time) if last_time > first_time else 0.0

    def _show(self, now: float) -> None:
        self._shown_at = now
        rate = self.rate()
        parts = [self._counted()]
        if rate > 0:
            parts.append(f"{short_number(rate)} {self.unit}/s")
            if self.total is not None and self.done < self.total:
                parts.append(f"{short_time((self.total - self.done) / rate)} left")
        text = ", ".join(parts + self._texts())
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, text=text)
        else:
            print(f"{self.what}: {text}", file=self.stream, flush=True)

    def _counted(self) -> str:
        if self.total is None:
            return f"{short_number(self.done)} {self.unit}"
        percent = 100.0 * self.done / self.total if self.total else 100.0
        return f"{percent:.0f}% of {short_number(self.total)} {self.unit}"

    def _texts(self) -> list[str]:
        return [
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.figures.items()
        ]


def short_number(value: float) -> str:
    """A count as people say it: 950, 12.3K, 4.57M, 743.9B."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.2g}"


def short_time(seconds: float) -> str:
    """A duration as people say it: 4.2 s, 3 min 20 s, 5 h 12 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
