import io
import time

import pytest

from godwit.base import progress as module
from godwit.base.progress import Progress, short_number, short_time


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_pipe_gets_a_line_every_ten_seconds_and_one_at_the_end(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(1000, what="training", unit="tokens", stream=stream) as progress:
        for _ in range(50):
            clock.now += 0.5
            progress.advance(10, loss=2.125)
    lines = stream.getvalue().splitlines()
    assert lines == [
        "training: 20% of 1K tokens, 20 tokens/s, 40 s left, loss 2.125",
        "training: 40% of 1K tokens, 20 tokens/s, 30 s left, loss 2.125",
        "training done: 50% of 1K tokens in 25 s, 20 tokens/s, loss 2.125",
    ]


def test_work_before_a_resume_counts_in_the_bar_and_not_in_the_rate(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(1000, start=900, stream=stream) as progress:
        for _ in range(2):
            clock.now += 5
            progress.advance(25)
    assert stream.getvalue().splitlines()[0] == "training: 95% of 1K tokens, 5 tokens/s, 10 s left"


def test_the_first_step_which_compiles_says_nothing_of_the_others(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(100, what="timing", unit="runs", stream=stream) as progress:
        clock.now += 500
        progress.advance(1)
        clock.now += 10
        progress.advance(1)
    first, second, end = stream.getvalue().splitlines()
    assert first == "timing: 1% of 100 runs"
    assert second == "timing: 2% of 100 runs, 0.1 runs/s, 16 min 20 s left"
    assert end.startswith("timing done: 2% of 100 runs in 8 min 30 s")


def test_unknown_total_and_an_error(clock: Clock) -> None:
    stream = io.StringIO()
    with pytest.raises(KeyError), Progress(None, what="reading", unit="files", stream=stream) as progress:
        clock.now += 2
        progress.advance(7)
        raise KeyError
    assert stream.getvalue() == "reading stopped: 7 files in 2.0 s, 3.5 files/s\n"


def test_rate_forgets_what_is_older_than_half_a_minute(clock: Clock) -> None:
    with Progress(None, silent=True) as progress:
        for _ in range(60):
            clock.now += 1
            progress.advance(1)
        for _ in range(60):
            clock.now += 1
            progress.advance(5)
        assert progress.rate() == pytest.approx(5.0)


def test_silent_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(10, silent=True) as progress:
        progress.advance(10)
        progress.note("hello")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_terminal_gets_a_bar_and_notes_above_it() -> None:
    stream = Terminal()
    with Progress(100, what="training", stream=stream) as progress:
        progress.advance(60, loss=1.5)
        progress.note("checkpoint [written]")
        time.sleep(0.15)
        progress.advance(40, loss=1.25)
    shown = stream.getvalue()
    assert "training" in shown and "loss 1.25" in shown and "100% of 100 tokens" in shown
    assert "checkpoint [written]" in shown


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (3, "3"), (3.25, "3.2"), (950, "950"), (12345, "12.35K"), (743.9e9, "743.9B"), (15e12, "15T")],
)
def test_short_number(value: float, text: str) -> None:
    assert short_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.21, "4.2 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (18720, "5 h 12 min")],
)
def test_short_time(seconds: float, text: str) -> None:
    assert short_time(seconds) == text
