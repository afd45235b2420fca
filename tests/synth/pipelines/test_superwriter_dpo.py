import json
import re
from pathlib import Path
from typing import Any

import pytest

from godwit.base.errors import GodwitError
from godwit.synth import thoughts
from godwit.synth.line import Limits
from godwit.synth.pipelines.superwriter_dpo import GENERAL, Options, chosen_criteria
from godwit.synth.rows import Malformed
from tests.synth.harness import finishes

CRITERIA = {
    "general": [{"name": name, "scale": f"scale of {name}"} for name in GENERAL],
    "special": [{"name": name, "scale": "s"} for name in ("Emotion", "creativity", "readability")],
}
CALM = Limits(concurrency=16, timeout=5.0, patience=20.0, threshold=50)  # 159 calls, on slow machines too
SMALL = {"plans": 2, "drafts": 2, "refinements": 2, "check_lengths": False}


def text(step: thoughts.Step, name: str, answers: int) -> str:
    return thoughts.write(step, ["t"] * answers, [f"{name}/{place}" for place in range(answers)])


def answer(request: dict[str, Any]) -> str:
    """Texts named by where they come from; a judge who likes some names better."""
    prompt = request["messages"][0]["content"]
    name = f"{request['seed'] % 1000:03d}"
    if request["model"] == "writer-1":
        assert request["stop"] == ["<end>"] and request["top_p"] == 0.95 and request["temperature"] == 0.6
        if prompt.startswith("Plan"):
            return text("plan", f"p{name}", 2).removesuffix("<end>")
        if prompt.startswith("Write the text"):
            return text("write", re.search(r"p\d+", prompt)[0] + f"d{name}", 2).removesuffix("<end>")
        return text("refine", re.search(r"p\d+d\d+", prompt)[0] + f"r{name}", 2).removesuffix("<end>")
    if "Six criteria are used" in prompt:
        return json.dumps(CRITERIA)
    return f"First [[1]], then Rating: [[{value_of(prompt)}]]"


def value_of(prompt: str) -> int:
    digits = re.search(r"p(\d+)d(\d+)r(\d+)/0", prompt)
    return 1 + sum(map(int, digits.groups())) % 10


def test_a_small_tree_against_every_fault(tmp_path: Path) -> None:
    rows = [{"id": "a", "instruction": "Write it."}]
    data, rejected = finishes(
        "superwriter_dpo", rows, answer, tmp_path, num_calls=2 + 4 + 8 + 1 + 8 * 6 * 3, options=SMALL, limits=CALM
    )
    assert not rejected and 0 < len(data) <= 6
    for pair in data:
        assert pair["chosen"] != pair["rejected"] and pair["chosen_value"] > pair["rejected_value"]
        assert pair["chosen_path"][:-1] == pair["rejected_path"][:-1] and pair["num_leaves"] == pair["num_scored"] == 8
        prompt, chosen = pair["prompt"][0]["content"], pair["chosen"][0]["content"]
        assert chosen.endswith("<end>") and pair["step"] in ("plan", "write", "refine")
        # Not the empty prompts of the released notebook: each is what its texts were drawn with.
        parent = {"plan": "Write it.", "write": "/1\n</outline>", "refine": "/1\n</draft>"}[pair["step"]]
        assert parent in prompt
        if pair["step"] != "plan":
            name = thoughts.read(chosen).answers[0]
            assert name.rpartition("r" if pair["step"] == "refine" else "d")[0] in prompt
        if pair["step"] == "refine":
            assert pair["chosen_value"] == 6 * value_of(chosen)  # six criteria, three equal ratings each


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 1, 2), (2, 1, 1)])
def test_other_sizes(tmp_path: Path, size: tuple[int, int, int]) -> None:
    options = SMALL | dict(zip(("plans", "drafts", "refinements"), size))
    rows = [{"id": "a", "instruction": "Write it."}]
    data, rejected = finishes("superwriter_dpo", rows, answer, tmp_path, faults=0, options=options)
    if size == (1, 1, 1):
        assert not data and rejected[0]["reason"] == "nothing to prefer in a tree of 1 rated leaves"
        (tmp_path / "code").mkdir()
        data, _ = finishes(
            "superwriter_dpo", rows, answer, tmp_path / "code", faults=0, options=options | {"compat": "code"}
        )
        assert [pair["chosen"] == pair["rejected"] for pair in data] == [True] * 3
    else:
        assert [pair["step"] for pair in data] == ["refine" if size == (1, 1, 2) else "plan"]


def test_invalid_texts_are_drawn_again_until_the_tries_are_out(tmp_path: Path) -> None:
    plans = []

    def one_plan(request: dict[str, Any]) -> str:
        prompt = request["messages"][0]["content"]
        if prompt.startswith("Plan"):
            plans.append(request["seed"])
            if len(set(plans)) != 4:
                return "<answer>only one</answer>"
        return answer(request)

    rows = [{"id": "a", "instruction": "Write it."}]
    data, rejected = finishes("superwriter_dpo", rows, one_plan, tmp_path, faults=0, options=SMALL)
    assert len(set(plans)) == 10 and {pair["step"] for pair in (data or [{"step": "write"}])} <= {"write", "refine"}
    assert not rejected


def test_lengths_as_in_the_paper_leave_nothing_here(tmp_path: Path) -> None:
    rows = [{"id": "a", "instruction": "Write it."}]
    options = SMALL | {"check_lengths": True}
    _, (rejected,) = finishes("superwriter_dpo", rows, answer, tmp_path, faults=0, num_calls=10, options=options)
    assert rejected["stage"] == "grow" and "words, not between 500 and 22000" in rejected["reason"]


def test_a_leaf_that_is_not_rated_is_left_out_and_is_0_in_the_code(tmp_path: Path) -> None:
    leaves: list[str] = []

    def mute(request: dict[str, Any]) -> str:
        """Of one of the two refinements, clarity is never rated."""
        prompt = request["messages"][0]["content"]
        said = answer(request)
        if prompt.startswith("Refine"):
            leaves.append(re.search(r"r(\d+)/0", said)[0])
        unrated = "one thing alone: clarity" in prompt and min(leaves) in prompt
        return "No [[11]] and no [[0]]." if unrated else said

    rows = [{"id": "a", "instruction": "Write it."}]
    options = SMALL | {"plans": 1, "drafts": 1}
    data, (rejected,) = finishes("superwriter_dpo", rows, mute, tmp_path, faults=0, options=options)
    assert not data and rejected["reason"] == "nothing to prefer in a tree of 1 rated leaves"
    (tmp_path / "code").mkdir()
    options |= {"compat": "code"}
    data, _ = finishes("superwriter_dpo", rows, mute, tmp_path / "code", faults=0, options=options)
    refine = data[-1]
    assert refine["step"] == "refine" and refine["num_scored"] == 2
    of_unrated = {pair: refine[f"{pair}_value"] for pair in ("chosen", "rejected") if min(leaves) in str(refine[pair])}
    assert list(of_unrated.values()) == [5 * value_of(refine[next(iter(of_unrated))][0]["content"])]


def test_no_verdict_at_all_is_unscored(tmp_path: Path) -> None:
    def silent(request: dict[str, Any]) -> str:
        rates = "one thing alone" in request["messages"][0]["content"]
        return "I cannot say." if rates else answer(request)

    rows = [{"id": "a", "instruction": "Write it."}]
    _, (rejected,) = finishes(
        "superwriter_dpo", rows, silent, tmp_path, faults=0, options=SMALL | {"plans": 1, "drafts": 1}
    )
    assert rejected["status"] == "unscored"
    assert rejected["reason"].startswith("none of 2 leaves was rated; relevance: 0 ratings of 3; no rating")


def test_criteria() -> None:
    found = chosen_criteria(json.dumps(CRITERIA))
    assert [criterion.name for criterion in found] == [*GENERAL, "Emotion", "creativity", "readability"]
    for wrong in (
        CRITERIA | {"special": CRITERIA["special"][:2]},
        CRITERIA | {"special": CRITERIA["special"][:2] * 2},
        CRITERIA | {"special": [*CRITERIA["special"][:2], {"name": "length", "scale": "s"}]},
        CRITERIA | {"general": CRITERIA["general"][:2]},
        {},
    ):
        with pytest.raises(Malformed):
            chosen_criteria(json.dumps(wrong))


def test_a_tree_of_nothing_is_refused() -> None:
    with pytest.raises(GodwitError, match="--drafts is 0; give 1 or more"):
        Options(drafts=0)
