"""LongBench-Cite: prompts, verdicts to scores, correctness, the table."""

import pytest

from godwit.evals.benchmarks import longbench_cite as benchmark
from godwit.evals.harness.kit import Kit
from tests.evals.fakes import FakeJudge, FakeModel, answered, scored

CONTEXT = "The mill was built in 1811. It burned twice. Ida Moor owned it."
ROW = benchmark.Row(idx=1, dataset="multifieldqa_en", context=CONTEXT, query="Who?", answer=["Ida", "Ida Moor"])
ANSWER = (
    "<statement>Ida Moor owned it.<cite>[2-2][0-0]</cite></statement><statement>So it is.<cite></cite></statement>"
    "<statement>It is red.<cite></cite></statement>"
)


def judge_of(prompt: str) -> str:
    """Supports all; only the passage about Ida is relevant; "It is red." needs a citation; reference 2 is met."""
    if "Partially" in prompt:
        return "[[Fully supported]]"
    if "[[Unrelevant]]" in prompt:
        return "[[Relevant]]" if "<passage>\nIda" in prompt else "[[Unrelevant]]"
    if "[[Yes]]" in prompt:
        return "[[Yes]]" if "<sentence>\nIt is red." in prompt else "[[No]]"
    return "[[3]]" if "<reference>\nIda Moor" in prompt else "[[2]]"


def test_the_prompt_numbers_sentences_and_the_plain_one_does_not() -> None:
    model = FakeModel()
    answered(benchmark, ROW, model)
    assert (
        "<C0>The mill was built in 1811. <C1>It burned twice. <C2>Ida Moor owned it.\n</document>" in model.prompts[0]
    )
    answered(benchmark, ROW, model, benchmark.Options(cite=False))
    assert f"<document>\n{CONTEXT}\n</document>" in model.prompts[1]


def test_scores_by_hand() -> None:
    judge = FakeJudge(judge_of)
    outcome = scored(benchmark, ROW, ANSWER, judge)
    # recall: 1 (supported), 1 (needs none), 0 (needs one) = 2/3; precision: 1 of 2; F1 = 2 * 2/3 * 1/2 / (7/6) = 4/7
    assert outcome.values["citation recall"] == pytest.approx(200 / 3)
    assert outcome.values["citation precision"] == pytest.approx(50)
    assert outcome.values["citation F1"] == pytest.approx(400 / 7)
    assert outcome.values["correctness"] == 100  # the better of two references
    support = next(prompt for prompt in judge.prompts if "Partially" in prompt)
    assert "Ida Moor owned it.\n\nThe mill was built in 1811." in support  # all that is cited, a blank line between
    assert outcome.groups == ("multifieldqa", "multifieldqa_en")
    assert outcome.details["splitter"].startswith("punkt/")


def test_a_missing_verdict_leaves_the_answer_without_citation_scores() -> None:
    judge = FakeJudge(lambda prompt: "" if "[[Unrelevant]]" in prompt else judge_of(prompt))
    outcome = scored(benchmark, ROW, ANSWER, judge)
    assert set(outcome.values) == {"correctness"}
    assert set(outcome.unscored) == {"citation F1", "citation recall", "citation precision"}


def test_only_the_first_40_statements_are_judged_and_an_empty_answer_scores_0() -> None:
    judge = FakeJudge(judge_of)
    options = benchmark.Options(correctness=False)
    scored(benchmark, ROW, "<statement>s<cite>[0-0]</cite></statement>" * 50, judge, options)
    assert len(judge.prompts) == 80
    empty = scored(benchmark, ROW, "", FakeJudge(judge_of), options)
    assert empty.values == {"citation F1": 0.0, "citation recall": 0.0, "citation precision": 0.0}


def test_chats_anchors_are_in_an_order_of_the_seed() -> None:
    anchors = [{"answer": f"answer {n}", "score": n} for n in range(1, 8)]
    row = ROW.model_copy(
        update={"dataset": "longbench-chat", "few_shot_scores": [benchmark.Anchor(**a) for a in anchors]}
    )
    orders = []
    for seed in (0, 0, 1):
        judge = FakeJudge(lambda prompt: "[[7]]")
        outcome = scored(benchmark, row, "a\nb", judge, benchmark.Options(cite=False), Kit(seed=seed))
        assert outcome.values == {"correctness": 70.0}
        orders.append(judge.prompts[0])
    assert orders[0] == orders[1] != orders[2]
    assert "<answer>\na b\n</answer>" in orders[0]


def test_the_headline_is_the_mean_of_data_sets_with_multifieldqa_pooled() -> None:
    rows = {
        name: ROW.model_copy(update={"dataset": dataset})
        for name, dataset in (
            ("1", "multifieldqa_en"),
            ("2", "multifieldqa_zh"),
            ("3", "multifieldqa_zh"),
            ("4", "dureader"),
        )
    }
    outcomes = {
        name: scored(benchmark, row, ANSWER if name == "4" else "", FakeJudge(judge_of)) for name, row in rows.items()
    }
    figures = {(f.group, f.metric): f for f in benchmark.figures(outcomes, rows, benchmark.Options())}
    assert figures["multifieldqa", "citation F1"].num_scored == 3
    assert figures["overall", "citation F1"].value == pytest.approx((0 + 400 / 7) / 2)  # not pooled over samples


def test_hostile_answers_cost_no_more_than_40_statements() -> None:
    judge = FakeJudge(judge_of)
    text = "<statement>a<statement>b<cite>[9-1][0-99999999999999999999]</cite></cite></statement>" * 1000
    outcome = scored(benchmark, ROW, text, judge, benchmark.Options(correctness=False))
    assert outcome.details["statements"][0]["spans"] == [[0, 2]]
    assert outcome.details["num_statements"] >= 1000 and len(outcome.details["statements"]) == 40
