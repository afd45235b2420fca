"""The whole path over real HTTP through the command line: result folder, failures, resuming, comparison."""

import json
from pathlib import Path
from typing import Any

import pytest

from godwit.base.errors import GodwitError
from godwit.cli.verbs import eval as verb
from godwit.evals.harness.compare import compare
from godwit.evals.harness.kit import fill
from godwit.evals.harness.result import read_outcomes, read_result
from godwit.rewards.quality import DIMENSIONS
from tests.synth.endpoint import KEY, prompt_of, serving

pytest.importorskip("inspect_ai")
RATINGS = json.dumps(dict.fromkeys(DIMENSIONS, 4))


@pytest.fixture(autouse=True)
def key(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "inspect"))


def write_data(folder: Path, count: int = 3) -> Path:
    path = folder / "rows.jsonl"
    rows = [{"prompt": f"Write {n}00 words.", "length": n * 100} for n in range(1, count + 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def words(url: str, data: Path, out: Path, *more: str) -> list[str]:
    judge = ["--judge", url, "--judge-name", "judge-1"]
    return [
        "longbench_write",
        "--model",
        url,
        "--model-name",
        "writer-1",
        *judge,
        "--data",
        str(data),
        "--out",
        str(out),
        *more,
    ]


def replies(request: dict[str, Any]) -> str:
    return RATINGS if request["model"] == "judge-1" else "word " * 200


def test_a_run_its_failures_its_next_start_and_a_comparison(tmp_path, capsys) -> None:
    data, out = write_data(tmp_path), tmp_path / "a"
    broken = {"down": True}

    def answer(request: dict[str, Any]) -> str | dict[str, Any]:
        if request["model"] == "writer-1" and broken["down"] and "300" in prompt_of(request):
            return {"content": "the model is overloaded", "status": 400}
        if request["model"] == "judge-1" and "Write 200" in prompt_of(request):
            return "I would rather not."
        return replies(request)

    with serving(answer) as endpoint:
        assert verb.run(words(endpoint.url, data, out, "--price", "1/2")) == 1
        assert "1 of 3 samples failed; the same command asks them again" in capsys.readouterr().out
        first = read_result(out)
        assert first.num_failed == 1
        asked = endpoint.num_served
        broken["down"] = False
        assert verb.run(words(endpoint.url, data, out, "--price", "1/2")) == 0
        assert endpoint.num_served == asked + 2  # the failed sample's text and its judging, nothing else
        with pytest.raises(GodwitError, match="holds a finished run"):
            verb.run(words(endpoint.url, data, out, "--price", "1/2"))

    result, outcomes = read_result(out), read_outcomes(out)
    assert result.num_failed == 0
    cells = {(figure.group, figure.metric): figure for figure in result.figures}
    # 200 words for 100, 200 and 300: 66.7, 100, 75
    assert cells["overall", "S_l"].value == pytest.approx((200 / 3 + 100 + 75) / 3)
    assert (cells["overall", "S_q"].value, cells["overall", "S_q"].num_missing) == (75, 1)
    unscored = next(outcome for outcome in outcomes.values() if outcome.unscored)
    assert unscored.unscored["S_q"] == "5 replies of the judge without a verdict"
    assert result.judge is not None
    pinned = {"model": "judge-1", "temperature": 0.5, "seed": 0, "attempts": 5}
    assert pinned.items() <= result.judge.items() and len(result.judge["prompts"]["quality"]) == 16
    assert result.costs["model"]["dollars"] > 0 and "dollars" not in result.costs["judge"]
    page = (out / "report.html").read_text()
    assert (
        "LongWriter-9B-DPO" in page
        and "<td>84.0</td>" in page
        and "the judge gave no verdict" in page
        and "<script" not in page
    )
    for path in out.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    _compared(tmp_path, data, out, capsys)


def _compared(tmp_path: Path, data: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "b"
    with serving(lambda request: RATINGS if request["model"] == "judge-1" else "word " * 100) as endpoint:
        assert verb.run(words(endpoint.url, data, other)) == 0
    _a, _b, found = compare(out, other)
    by_metric = {item.metric: item for item in found}
    length = by_metric["S_l"].difference
    # 100 words for 100, 200, 300: 100, 50, 0 against 66.7, 100, 75
    assert length.difference.mean == pytest.approx((100 + 50 + 0 - 200 / 3 - 100 - 75) / 3)
    assert (length.num_better, length.num_worse) == (1, 2)
    assert by_metric["S_q"].num_unpaired == 1
    assert verb.run(["compare", str(out), str(other), "--out", str(tmp_path / "c.html")]) == 0
    assert "S_l" in capsys.readouterr().out and (tmp_path / "c.html").exists()
    settings = json.loads((other / "result.json").read_text())
    settings["judge"]["model"] = "judge-2"
    (other / "result.json").write_text(json.dumps(settings))
    with pytest.raises(GodwitError, match="were not judged alike \\(judge\\.model: judge-1 -> judge-2"):
        compare(out, other)


def test_mistakes_cost_nothing(tmp_path) -> None:
    data, out = write_data(tmp_path), tmp_path / "a"
    with serving(replies, context=8192) as endpoint:
        url = endpoint.url
        no_judge = ["longbench_write", "--model", url, "--data", str(data)]
        for arguments, message in [
            (no_judge, "needs a judge; give --judge URL"),
            (["longbench_wirte"], "did you mean 'longbench_write'"),
            (["--limit", "3"], "the benchmark comes first"),
            (["longbench_write", "--judge", url], "a judge without a model"),
            (words(url, data, out, "--judge-name", "judge-9"), "did you mean 'judge-1'"),
            (words(url, data, out), "replies of 32768 tokens do not fit the 8192 the model takes; give --max-tokens"),
            (words(url, data, out, "--price", "cheap"), "give dollars per million tokens"),
            (words(url, data, out, "--limit", "0"), "limit is 0"),
            (["longbench_v2", "--model", "no/such/folder"], "neither an address"),
            (["compare", str(tmp_path), str(tmp_path)], "holds no result"),
        ]:
            with pytest.raises(GodwitError, match=message):
                verb.run(arguments)
        assert endpoint.num_served == 0
    assert not out.exists()


def test_a_text_longer_than_the_model_takes_is_refused_with_its_id(tmp_path) -> None:
    row = json.loads((Path(verb.__file__).parents[2] / "evals/samples/longbench_v2.jsonl").read_text().splitlines()[0])
    data = tmp_path / "long.jsonl"
    data.write_text(json.dumps(row | {"context": "word " * 50_000}))
    with serving(replies, context=8192) as endpoint:
        command = ["longbench_v2", "--model", endpoint.url, "--model-name", "writer-1", "--data", str(data)]
        with pytest.raises(
            GodwitError, match=r"row own-1 has at least 50\d+ tokens and the model takes 8192 with 128 of them"
        ):
            verb.run([*command, "--out", str(tmp_path / "a")])
        assert endpoint.num_served == 0


def test_templates_are_filled_at_once_and_completely() -> None:
    assert fill("{{a}} and {{b}} {c}", {"a": "{{b}}", "b": "x"}) == "{{b}} and x {c}"
    for values in ({"a": "x"}, {"a": "x", "b": "y", "c": "z"}):
        with pytest.raises(AssertionError):
            fill("{{a}} {{b}}", values)


def test_help_lists_every_benchmark(capsys) -> None:
    assert verb.run([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("longbench_v2", "arena_write", "compare"))
