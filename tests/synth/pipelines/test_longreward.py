import re
from pathlib import Path
from typing import Any

import pytest

from tests.synth.harness import finishes

# Scores of the answers that are named so: helpfulness, logicality, facts' labels, completeness.
TABLE = {
    "best": (9, 9, ("Fully supported", "Fully supported"), 8),  # 10: mean 9
    "half": (8, 8, ("Partially supported", "No support"), 6),  # 2.5: mean 6.125
    "worst": (2, 5, ("No support",), 1),  # 0: mean 2
    "plain": (5, 5, ("Partially supported",), 5),  # 5: mean 5
}
CONTEXT = "Anna Brandt built the tower. " + "Nothing is said here. " * 30


def reply(request: dict[str, Any]) -> str:
    prompt = request["messages"][0]["content"]
    if "Here is a part" in prompt:
        return "* Anna Brandt built it." if "Brandt" in prompt else "no relevant information"
    if "Statement: " in prompt:
        assert request["model"] == "judge-1" and "Anna Brandt built" in prompt
        label = prompt.rsplit("Statement: fact ", 1)[1].split(",")[0]
        # The last label counts: the first is what the analysis quotes.
        return f"It is not [[Fully supported]] at once. [[{label}]]"
    name = next((name for name in TABLE if f"\n{name} answer" in prompt), None)
    if name is None:
        number = request["seed"] % 4
        return f"{list(TABLE)[number]} answer, by seed {request['seed']}"
    helpful, logical, labels, complete = TABLE[name]
    if "List the facts" in prompt:
        return "".join(f"<statement>fact {label}, number {n} of {name}</statement>" for n, label in enumerate(labels))
    value = helpful if "How helpful" in prompt else logical if "in\nitself" in prompt else complete
    if "Points:" in prompt:
        assert "[0% to 100% of the document]\n* Anna" in prompt
    return f"At first sight [[1]], on the whole: Rating: [[{value}]]"


def row(**more: Any) -> dict[str, Any]:
    return {"id": "a", "context": CONTEXT, "query": "Who built it?", **more}


GIVEN = ["half answer", "worst answer", "best answer", "plain answer", "half answer"]


def test_given_answers_are_scored_and_paired(tmp_path: Path) -> None:
    # 1 part; 4 different answers: 3 ratings, 1 list of facts, and 2 + 2 + 1 + 1 facts.
    (pair,), rejected = finishes("longreward", [row(responses=GIVEN)], reply, tmp_path, num_calls=1 + 4 * 4 + 6)
    assert not rejected and pair["chosen"][0]["content"] == "best answer" == GIVEN[pair["chosen_place"]]
    assert pair["rejected"][0]["content"] == "worst answer" == GIVEN[pair["rejected_place"]]
    assert (pair["chosen_reward"], pair["rejected_reward"]) == (9.0, 2.0)
    assert [score["reward"] for score in pair["scores"]] == [6.125, 2.0, 9.0, 5.0, 6.125]
    assert pair["scores"][0] == {
        "helpfulness": 8.0,
        "logicality": 8.0,
        "faithfulness": 2.5,
        "completeness": 6.0,
        "reward": 6.125,
        "unscored": "",
    }
    assert pair["prompt"][0]["role"] == "user" and CONTEXT.strip() in pair["prompt"][0]["content"]


def test_the_code_sums(tmp_path: Path) -> None:
    options = {"compat": "code"}
    (pair,), _ = finishes("longreward", [row(responses=GIVEN)], reply, tmp_path, options=options)
    assert (pair["chosen_reward"], pair["rejected_reward"]) == (36.0, 8.0)


def test_answers_are_drawn_against_every_fault(tmp_path: Path) -> None:
    rows = [row(id=f"q{number}", query=f"Who built it, {number}?") for number in range(2)]
    data, rejected = finishes("longreward", rows, reply, tmp_path, options={"samples": 6})
    assert len(data) + len(rejected) == 2 and data
    for pair in data:
        assert len(pair["scores"]) == 6 and pair["chosen_reward"] == max(s["reward"] for s in pair["scores"])
        assert pair["rejected_reward"] == min(score["reward"] for score in pair["scores"])
        assert pair["chosen"] != pair["rejected"]


def test_what_the_judge_does_not_say_is_no_score(tmp_path: Path) -> None:
    def mumbles(request: dict[str, Any]) -> str:
        prompt = request["messages"][0]["content"]
        if "plain answer" in prompt and "How helpful" in prompt:
            return "Rating: [[70]], or 7/10"
        if "worst answer" in prompt and "List the facts" in prompt:
            return "There are none."
        return reply(request)

    (_,) = finishes("longreward", [row(responses=GIVEN)], mumbles, tmp_path)[1]
    (tmp_path / "three").mkdir()
    (pair,), _ = finishes("longreward", [row(responses=GIVEN)], mumbles, tmp_path / "three", options={"min_scored": 3})
    half, worst, best, plain, _ = pair["scores"]
    assert plain["reward"] is None and plain["helpfulness"] is None and plain["logicality"] == 5.0
    assert "rating from [[0]] to [[10]]" in plain["unscored"] and worst["faithfulness"] is worst["reward"] is None
    assert (pair["chosen_place"], pair["rejected_place"]) == (2, 4) and best["reward"] > half["reward"]


def test_too_few_scored_is_unscored_and_equal_ones_are_dropped(tmp_path: Path) -> None:
    rows = [row(id="few", responses=GIVEN[:4]), row(id="equal", responses=["half answer"] * 5)]
    data, rejected = finishes("longreward", rows, reply, tmp_path)
    assert not data
    assert {(line["id"], line["status"], line["reason"]) for line in rejected} == {
        ("few", "unscored", "4 of 4 answers have a reward"),
        ("equal", "dropped", "all answers have the same reward"),
    }
    (tmp_path / "code").mkdir()
    data, _ = finishes("longreward", rows[1:], reply, tmp_path / "code", options={"compat": "code"})
    assert (data[0]["chosen_place"], data[0]["rejected_place"]) == (0, 4)


def test_a_question_the_document_knows_nothing_of(tmp_path: Path) -> None:
    rows = [row(context="Nothing is said here.", responses=GIVEN)]
    rows[0]["context"] += " Anna built nothing."

    def knows_nothing(request: dict[str, Any]) -> str:
        prompt = request["messages"][0]["content"]
        return "[[No support]]" if "Statement: " in prompt else reply(request)

    _, (rejected,) = finishes("longreward", rows, knows_nothing, tmp_path)
    assert rejected["status"] == "unscored" and "no part of the document bears on the question" in rejected["reason"]


@pytest.mark.parametrize("parts", [1, 3])
def test_points_are_asked_for_once_a_part(tmp_path: Path, parts: int) -> None:
    seen = []

    def watch(request: dict[str, Any]) -> str:
        prompt = request["messages"][0]["content"]
        if "Here is a part" in prompt:
            seen.append(re.search(r"in (English|Chinese)\.", prompt)[1])
            return "a point"
        if "Points:" in prompt:
            assert prompt.count("of the document]\na point") == parts
        return "[[Fully supported]] [[5]]" if "Statement: " in prompt else reply_any(prompt)

    def reply_any(prompt: str) -> str:
        if "List the facts" in prompt:
            return "<statement>x</statement>"
        return f"Rating: [[{9 if 'best' in prompt else 1}]]"

    text = "The tower was built by Anna. " * 40 * parts
    tokens = len(text) // 4 // parts + 12
    options = {"part_tokens": tokens, "min_scored": 2}
    rows = [row(context=text, responses=["best answer", "worst answer"])]
    data, _ = finishes("longreward", rows, watch, tmp_path, options=options)
    assert data[0]["chosen_place"] == 0 and seen == ["English"] * parts
