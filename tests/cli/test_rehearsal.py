"""Without endpoint and model, `godwit synth` ends in data and `godwit eval` in figures: the bundled model in form."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from godwit.cli import main
from godwit.evals.harness.result import read_result
from godwit.serve import local
from tests.synth import endpoint as scripted
from tests.synth.harness import read_rows
from tests.synth.pipelines.test_longwriter_v import answer


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", scripted.KEY)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "inspect"))


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch) -> Iterator[scripted.Endpoint]:
    """A scripted endpoint in the bundled model's place."""
    with scripted.serving(answer) as served:

        @contextmanager
        def serving(model: str, **options: Any) -> Iterator[local.Endpoint]:
            yield local.Endpoint(served.url, scripted.KEY, "writer-1", 0)

        monkeypatch.setattr(local, "serving", serving)
        yield served


def test_a_rehearsal_has_its_own_options_and_what_is_typed_wins(
    bundled: scripted.Endpoint, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def min_needed(*words: str) -> int:
        out = tmp_path / "out" / str(len(words))
        assert main(["synth", "longwriter_v", "--out", str(out), *words]) == 0
        return json.loads((out / "config.json").read_text())["options"]["min_needed"]

    assert min_needed() == 1
    said = capsys.readouterr().out
    assert "with options that short answers can meet: min-needed 1" in said and "mean nothing" in said
    assert all("structured_outputs" in body or "response_format" in body for body in bundled.bodies if "seed" in body)
    folder = tmp_path / "out" / "0"
    for file in ("README.md", "samples.html"):
        assert "A rehearsal: the small bundled model wrote this" in (folder / file).read_text()
    assert min_needed("--min-needed", "1000") == 1000
    assert min_needed("--endpoint", bundled.url, "--model", "writer-1") == 1000
    assert "short answers" not in capsys.readouterr().out.replace("its answers are short", "")


def test_forms_go_to_the_endpoints_that_were_said_to_take_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from godwit.cli.verbs import synth
    from godwit.synth.pipeline import load
    from godwit.text.forms import Room

    def rooms(**words: Any) -> list[Room | None]:
        general = synth.Options(endpoint="http://h/v1", model="w", judge_model="j", **words)
        found = synth._given(load("longreward"), general)
        return [found["writer"].room, found["judge"].room]

    assert rooms() == [None, None]
    assert rooms(structured=True) == [None, None]
    assert rooms(forms=True) == [Room(), Room()]
    assert rooms(forms=True, judge_endpoint="http://other/v1") == [Room(), None]
    assert rooms(judge_forms=True, judge_endpoint="http://other/v1") == [None, Room()]


@pytest.mark.slow
def test_a_pipeline_with_the_bundled_model_ends_in_data() -> None:
    assert main(["synth", "selfinstruct_longqa"]) == 0
    data = read_rows(Path("data/selfinstruct_longqa/data.jsonl"))
    assert len(data) == 3 and all(row["query"].strip() and row["answer"].strip() for row in data)


@pytest.mark.slow
def test_a_benchmark_with_the_bundled_model_ends_in_figures() -> None:
    pytest.importorskip("inspect_ai")
    assert main(["eval", "longbench_write", "--limit", "2"]) == 0
    result = read_result(Path("evals/longbench_write"))
    assert result.rehearsal
    overall = {figure.metric: figure for figure in result.figures if figure.group == "overall"}
    assert all(overall[name].value is not None and overall[name].num_missing == 0 for name in ("S", "S_l", "S_q"))
