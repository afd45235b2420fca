"""`godwit synth`: what it prints, mistakes, exit codes."""

import json
from pathlib import Path

import pytest

from godwit.cli import main
from tests.synth import endpoint as scripted
from tests.synth.pipelines.test_agentwrite import answer


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", scripted.KEY)
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps({"id": f"t{n}", "instruction": f"Write {n}."}) + "\n" for n in range(4)))
    return path


def test_overview_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", "--help"]) == 0
    text = capsys.readouterr().out
    assert "agentwrite" in text and "selfinstruct_longqa" in text and "usage: godwit synth PIPELINE" in text
    assert main(["synth", "agentwrite", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "An input row has: id (may be absent), instruction, length (may be absent)" in text
    assert "--min-length-score" in text and "--key-env" in text and "--judge-model" in text


def test_a_run_from_trial_to_data(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted.serving(answer) as served:
        words = ["synth", "agentwrite", "--input", str(rows), "--endpoint", served.url, "--model", "writer-1"]
        words += ["--price", "1/2", "--min-words", "1"]
        assert main([*words, "--dry-run", "2"]) == 0
        text = capsys.readouterr().out
        assert "tried 2 of 4 rows; all of them come to about" in text and '"messages"' in text and "in all $" in text
        assert main(words) == 0
        text = capsys.readouterr().out
        assert "4 rows of data from 4 input rows" in text and "10 calls were sent now" in text
        assert main(words) == 0
        assert "0 calls were sent now" in capsys.readouterr().out
        assert served.paid_twice == 0
    names = {path.name for path in (rows.parent / "data" / "agentwrite").iterdir()}
    assert {"data.jsonl", "rejected.jsonl", "README.md", "samples.html", "ledger.json", "journal.sqlite"} <= names


def test_rows_that_failed_are_said_and_change_the_exit_code(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted.serving(lambda _: {"content": "not today", "status": 400}) as served:
        words = ["synth", "agentwrite", "--input", str(rows), "--endpoint", served.url, "--model", "writer-1"]
        assert main(words) == 4
    assert "4 rows failed at the endpoint; the same command tries them again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["agentwrit"], "unknown pipeline 'agentwrit': did you mean 'agentwrite'"),
        (["--limit", "3"], "the pipeline comes first"),
        (["agentwrite", "--endpoint", "http://localhost:1/v1"], "give --model NAME"),
        (["agentwrite", "--model", "x"], "a model is named and no endpoint"),
        (
            ["agentwrite", "--endpoint", "http://h/v1", "--model", "m", "--judge-model", "j"],
            "has no use for --judge-mod",
        ),
        (["agentwrite", "--endpoint", "http://h/v1", "--model", "m", "--max-cost", "3"], "--max-cost needs prices"),
        (["agentwrite", "--endpoint", "http://h/v1", "--model", "m", "--price", "3"], "a price is '3'"),
        (["agentwrite", "--concurrency", "0"], "concurrency is 0; give more than 0"),
        (["agentwrite", "--tempratur", "0"], "see godwit synth agentwrite --help"),
    ],
)
def test_mistakes_cost_nothing_and_say_what_to_type(
    rows: Path, capsys: pytest.CaptureFixture[str], words: list[str], wanted: str
) -> None:
    assert main(["synth", *words]) == 2
    said = capsys.readouterr().err
    assert wanted in said and said.count("\n") == 1 and "Traceback" not in said
