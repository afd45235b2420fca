"""The verbs `generate` and `chat` with the bundled model: what is said where, repeatable, and mistakes in one line."""

import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from godwit.cli import main
from godwit.models.bundled import resolve


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    def give(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))

    yield give


def test_one_prompt_streams_and_repeats_and_says_its_speed(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["generate", "nano", "def main(", "--max-tokens", "6", "--seed", "3"]) == 0
    out, err = capsys.readouterr()
    first, second = out.splitlines()[: len(out.splitlines()) // 2], out.splitlines()[len(out.splitlines()) // 2 :]
    assert first == second and first[0].startswith("def main(") and len(first[0]) > len("def main(")
    assert err.count("[6 tokens, ") == 2 and "tokens/s, first after" in err


def test_several_prompts_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "nano", "import os", "class A:", "--max-tokens", "5", "--temperature", "0"]
    assert main(arguments) == 0
    plain = capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["prompt"] for row in rows] == ["import os", "class A:"]
    assert all(row["num_tokens"] == 5 and row["finish"] == "length" for row in rows)
    assert plain == "\n".join(row["prompt"] + row["text"] + "\n" for row in rows)


def test_a_prompt_from_standard_input(typed, capsys: pytest.CaptureFixture[str]) -> None:
    typed("import sys\n")
    assert main(["generate", "nano", "-", "--max-tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("import sys\n")


def test_chat_answers_each_line_and_remembers_until_cleared(typed, capsys: pytest.CaptureFixture[str]) -> None:
    typed("hello\nhello\n/clear\nhello\n/what\n/exit\nnever\n")
    assert main(["chat", "nano", "--max-tokens", "4", "--temperature", "0", "--system", "Be brief."]) == 0
    out, err = capsys.readouterr()
    assert err.count("tokens/s") == 3 and "no command '/what'" in err and "\x1b" not in out


def test_a_terminal_gets_dim_thoughts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = iter(["hello"])
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)

    def read() -> str:
        line = next(lines, None)
        if line is None:
            raise EOFError
        return line

    monkeypatch.setattr("godwit.cli.verbs.chat._reader", lambda: read)
    assert main(["chat", "nano", "--max-tokens", "3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("\x1b[2m") and out.rstrip().endswith("\x1b[0m")


def test_drafts_need_a_prediction_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(resolve("nano"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 0}))
    assert main(["generate", str(folder), "x", "--speculate", "2"]) == 2
    assert "no prediction layer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chat", "gone"], "no such model folder: gone"),
        (["chat"], "see godwit chat --help"),
        (["generate", "nano", "x", "--temperature", "-1"], "temperature is -1.0"),
        (["generate", "nano", "x", "--plan", "FS"], "2 letters and the model 12 layers"),
        (["generate", "nano", "x", "--max-tokens", "0"], "max_tokens is 0"),
        (["generate", "nano", "x" * 40_000], "shorten it to 16383"),
    ],
)
def test_mistakes(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_standard_input_that_is_no_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["generate", "nano", "-"], ["chat", "nano"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\n"), encoding="utf-8"))
        assert main(words) == 2
        assert "standard input is not UTF-8" in capsys.readouterr().err
