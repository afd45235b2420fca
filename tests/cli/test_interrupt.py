"""Ctrl-C in a real terminal: an answer stops and the chat goes on; at the prompt it quits; no traceback."""

import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import godwit
from godwit.base.interrupt import whole_step

CTRL_C, ENTER = b"\x03", b"\r"
LONG = ["--max-tokens", "16000", "--ignore-eos"]


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Programs inherit it when Ctrl-C is ignored, as in jobs that a shell runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, *words: str):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["PROMPT_TOOLKIT_NO_CPR"] = "1"  # nobody here answers where the cursor is
            os.execv(sys.executable, [sys.executable, "-m", "godwit", *words])

    def read(self, enough: Callable[[bytes], bool], seconds: float = 120) -> bytes:
        """What it shows from now on, until that is enough or the program has ended."""
        shown, end = b"", time.monotonic() + seconds
        while not enough(shown):
            assert time.monotonic() < end, shown
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    piece = os.read(self.fd, 65536)
                except OSError:  # how Linux tells that the other side is closed
                    return shown
                if not piece:
                    return shown
                shown += piece
        return shown

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def terminal(*words: str) -> Iterator[Terminal]:
    program = Terminal(*words)
    try:
        yield program
    finally:
        os.close(program.fd)


def asked(shown: bytes) -> bool:
    """Whether the program waits for a line: pastes are bracketed, and the prompt is there."""
    _, brackets, drawn = shown.rpartition(b"\x1b[?2004h")
    return bool(brackets) and b">" in drawn and drawn.endswith(b"\x1b[?25h")


def paste(text: bytes) -> bytes:
    return b"\x1b[200~" + text + b"\x1b[201~" + ENTER


def test_chat_stops_the_answer_goes_on_and_quits_at_the_prompt() -> None:
    with terminal("chat", "nano", *LONG) as chat:
        chat.read(asked)
        for _ in range(2):
            chat.type(b"hello" + ENTER)
            chat.read(lambda shown: len(shown) > 400)
            chat.type(CTRL_C)
            rest = chat.read(asked)
            assert b"tokens/s" in rest and b"Traceback" not in rest
        chat.type(CTRL_C)
        rest = chat.read(lambda shown: False)
        assert chat.wait() == 130
    assert b"interrupted" in rest and b"Traceback" not in rest


def test_a_paste_is_one_message() -> None:
    with terminal("chat", "nano", "--max-tokens", "8") as chat:
        chat.read(asked)
        chat.type(paste(b"/no " + b"x" * 6000))
        assert b"no command '/no'" in chat.read(asked)
        chat.type(paste(b"/" + b"x" * 6000))
        assert b"no command '/" + b"x" * 6000 + b"'" in chat.read(asked)
        chat.type(paste(b"/clear\nx = 1\nx = 2"))
        shown = chat.read(asked)
        assert b"no command" not in shown and shown.count(b"tokens/s") == 1
        chat.type(b"/exit" + ENTER)
        chat.read(lambda shown: False)
        assert chat.wait() == 0


def test_generate_stops_with_what_came() -> None:
    with terminal("generate", "nano", "import os", *LONG) as generate:
        generate.read(lambda shown: len(shown) > 200)
        generate.type(CTRL_C)
        rest = generate.read(lambda shown: False)
        assert generate.wait() == 130
    assert b"tokens/s" in rest and rest.endswith(b"interrupted\r\n") and b"Traceback" not in rest


def test_several_prompts_stop_too() -> None:
    words = [sys.executable, "-m", "godwit", "generate", "nano", "import os", "import sys", *LONG]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    first = child.stderr.readline()  # the progress line: the model is loaded
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 130 and "interrupted" in err and "Traceback" not in first + err and not out


def test_a_model_is_whole_after_an_interrupt() -> None:
    """Ctrl-C at many moments of `generate`; every page is free, and the text afterwards is what it was."""
    llm = godwit.LLM("nano", num_pages=32, prefix_cache=False)
    params = godwit.SamplingParams(max_tokens=12, seed=5)
    prompts = ["import os", "def main(", "class A:"]

    def texts() -> list[str]:
        return [output.outputs[0].text for output in llm.generate(prompts, params)]

    expected, stopped = texts(), 0
    for moment in range(12):
        timer = threading.Timer(0.002 * moment, signal.raise_signal, [signal.SIGINT])
        try:
            timer.start()  # the first fires at once, while this thread may still be in here
            texts()
            timer.join()
            time.sleep(0.001)  # the handler runs in this thread, at the latest here
        except KeyboardInterrupt:
            stopped += 1
        stats = llm.engine.stats()
        assert (stats.num_running, stats.num_waiting, stats.num_free_pages) == (0, 0, stats.num_pages)
    assert stopped == 12
    assert texts() == expected


def test_a_step_ends_before_ctrl_c_counts() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), whole_step():
        signal.raise_signal(signal.SIGINT)
        done.append("whole")
    assert done == ["whole"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(ZeroDivisionError), whole_step():
        signal.raise_signal(signal.SIGINT)
        done.append(1 / 0)
