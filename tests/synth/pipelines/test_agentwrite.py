import json
from pathlib import Path

from godwit.rewards.length import length_score
from godwit.synth.sections import without_marker
from tests.synth.endpoint import prompt_of
from tests.synth.harness import finishes


def answer(request: dict) -> str:
    """Two equal steps in each plan (upstream's cache took them for one), then sections that tell which they are."""
    prompt = prompt_of(request)
    if "Plan it" in prompt:
        sections = [{"main_point": point, "words": 50} for point in ("begin", "go on", "go on", "end")]
        return "My plan:\n```json\n" + json.dumps({"sections": sections}) + "\n```"
    number = prompt.split("Now write section ")[1].split(":")[0]
    so_far = prompt.split("<text>")[1].split("</text>")[0].strip()
    return f"**Section {number}**\nPart {number} after {so_far.count('Part')} parts. " + "word " * 45


def test_it_finishes_against_every_fault(tmp_path: Path) -> None:
    rows = [{"id": f"t{number}", "instruction": f"Write number {number}.", "length": 200} for number in range(6)]
    data, rejected = finishes("agentwrite", rows, answer, tmp_path, num_calls=6 * 5)
    assert len(data) == 6 and not rejected
    for row in data:
        prompt, text = row["messages"]
        assert prompt["role"] == "user" and text["role"] == "assistant"
        parts = text["content"].split("\n\n")
        assert [part[: part.index(".")] for part in parts] == [
            f"Part {place + 1} after {place} parts" for place in range(4)
        ]
        assert row["words"] == 4 * 48 and row["length_score"] == round(length_score(192, 200), 4)


def test_without_prefix_no_step_sees_another(tmp_path: Path) -> None:
    options = {"prefix": "none"}
    (row,), _ = finishes("agentwrite", [{"instruction": "Write."}], answer, tmp_path, num_calls=5, options=options)
    assert row["messages"][1]["content"].count("after 0 parts") == 4 and row["length_score"] is None


def test_filters_say_why(tmp_path: Path) -> None:
    rows = [
        {"id": "exact", "instruction": "a", "length": 200},
        {"id": "far off", "instruction": "b", "length": 500},
        {"id": "no length", "instruction": "c"},
    ]
    options = {"min_length_score": 80.0, "only_with_length": True}
    data, rejected = finishes("agentwrite", rows, answer, tmp_path, options=options)
    assert [row["id"] for row in data] == ["exact"]
    reasons = {row["id"]: row["reason"] for row in rejected}
    assert "length score 19.8 (192 words for 500)" in reasons["far off"] and "no length" in reasons["no length"]


def test_plans_that_explode_and_plans_that_are_none(tmp_path: Path) -> None:
    def astray(request: dict) -> str:
        if "first" in prompt_of(request):
            return json.dumps({"sections": [{"main_point": "x", "words": 10}] * 51})
        return '{"sections": [{"main_point": "", "words": -5}]}'

    rows = [{"id": "1", "instruction": "first"}, {"id": "2", "instruction": "second"}]
    data, rejected = finishes("agentwrite", rows, astray, tmp_path, num_calls=1 + 3)
    assert not data and rejected[0]["reason"] == "51 sections, more than 50"
    assert "sections.0.main_point" in rejected[1]["reason"] and "in 3 answers" in rejected[1]["reason"]


def test_a_fault_told_to_the_model_is_mended(tmp_path: Path) -> None:
    def learns(request: dict) -> str:
        prompt = prompt_of(request)
        if "cannot be used" in prompt:
            assert request["messages"][-2]["role"] == "assistant" and "no JSON" in prompt
            return json.dumps({"sections": [{"main_point": "x", "words": 10}]})
        return "I would rather talk." if "Plan it" in prompt else "text"

    (row,), _ = finishes("agentwrite", [{"instruction": "a"}], learns, tmp_path, num_calls=3)
    assert row["messages"][1]["content"] == "text" and len(row["provenance"]["prompt_hashes"]) == 3


def test_markers_of_sections_go() -> None:
    assert without_marker("Paragraph 3: It rained.") == "It rained."
    assert without_marker("## Section 2\n\nIt rained.") == "It rained."
    assert without_marker("第三段：下雨了。") == "下雨了。"
    assert without_marker("Part of the story is lost.") == "Part of the story is lost."
    assert without_marker("## Rain\nIt rained.") == "## Rain\nIt rained."
