"""The long-output probes: what is counted, by hand, and from hostile texts."""

import json
from pathlib import Path

import pytest

import godwit.evals
from godwit.evals.benchmarks import long_output as benchmark
from tests.evals.fakes import FakeJudge, scored

LEDGER = benchmark.Row(id="1", kind="ledger", prompt="x", length=100, days=8, store=100, use=3)
RULE = benchmark.Row(id="2", kind="rule", prompt="x", length=100, word="lantern")


def diary(*left: int | None) -> str:
    return "\n\n".join(f"**Day {n}**\nIt rained. {'' if x is None else f'Left: {x}'}" for n, x in enumerate(left, 1))


def test_a_ledger_counts_each_day_and_where_it_goes_wrong() -> None:
    # right numbers are 97 94 91 88 85 82 79 76; day 3 is wrong, day 6 says none, day 8 is missing
    values = scored(benchmark, LEDGER, diary(97, 94, 90, 88, 85, None, 79)).values
    assert values["consistency"] == 100 * 5 / 8
    assert values["consistency, first quarter"] == 100.0  # days 1 and 2
    assert values["consistency, last quarter"] == 50.0  # day 7 right, day 8 missing
    assert "instruction" not in values


def test_the_first_entry_of_a_day_counts_and_the_last_number_in_it() -> None:
    text = "Day 1\nleft: 5 at noon, LEFT: 97\nDay 1\nLeft: 0\nDay 99999999999\nDay 2\nLeft: " + "9" * 5000
    assert benchmark.ledger_days(LEDGER, text)[:2] == [True, False]


def test_a_rule_is_counted_by_paragraph() -> None:
    text = "A Lantern.\n\nLanterns are none.\n \nthe lantern\n\n\n\nlantern!\n\n"
    assert benchmark.rule_paragraphs(RULE, text) == [True, False, True, True]
    values = scored(benchmark, RULE, text).values
    assert (values["instruction"], values["instruction, last quarter"]) == (75.0, 100.0)


def test_cost_is_tokens_for_a_thousand_words() -> None:
    assert scored(benchmark, RULE, "word " * 14).values["tokens per 1k words"] == 500.0  # 7 tokens for 14 words
    assert "tokens per 1k words" not in scored(benchmark, RULE, "").values


def test_quality_is_apart_and_only_if_asked_for() -> None:
    judge = FakeJudge(lambda prompt: "none")
    assert scored(benchmark, RULE, "word", judge).unscored == {} and judge.prompts == []
    outcome = scored(benchmark, RULE, "word", judge, benchmark.Options(quality=True))
    assert set(outcome.unscored) == {"S_q"} and len(judge.prompts) == 1


def test_a_ledger_is_not_missing_a_rule() -> None:
    outcomes = {"1": scored(benchmark, LEDGER, diary(97)), "2": scored(benchmark, RULE, "lantern")}
    figures = benchmark.figures(outcomes, {"1": LEDGER, "2": RULE}, benchmark.Options())
    cells = {(f.group, f.metric): f for f in figures}
    assert cells["overall", "consistency"].num_missing == 0
    assert ("ledger", "instruction") not in cells


def test_the_rows_in_the_package_are_those_that_are_made() -> None:
    path = Path(godwit.evals.__file__).parent / "samples" / "long_output.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows == list(benchmark.make_rows())
    assert len(rows) == 15


@pytest.mark.parametrize(
    "text", ["Day 1\n" * 100_000, "left: " * 500_000, "\n\n" * 300_000, " \n" * 300_000, "\n" + " " * 5_000_000]
)
def test_megabytes_take_linear_time(text: str) -> None:
    benchmark.ledger_days(LEDGER, text)
    benchmark.rule_paragraphs(RULE, text)
