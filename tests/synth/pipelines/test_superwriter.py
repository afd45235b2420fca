import json
from pathlib import Path
from typing import Any

import pytest

from godwit.synth import thoughts
from godwit.synth.pipelines.superwriter import between_marks
from godwit.synth.rows import Malformed
from tests.synth.harness import finishes

OUTLINE = {"title": "T", "paragraphs": [{"content": f"Point {n}.", "word_count": 300} for n in (1, 2, 3)]}


def part(prompt: str, tag: str) -> str:
    return prompt.split(f"<{tag}>\n")[1].split(f"\n</{tag}>")[0]


def answer(request: dict[str, Any]) -> str:
    """Agents that say what they were shown."""
    prompt = request["messages"][0]["content"]
    assert "{" not in prompt.replace("{{", "") or "JSON" in prompt
    if "as JSON in this form" in prompt:
        assert part(prompt, "outline").startswith("outline mended")
        return json.dumps(OUTLINE)
    if "on four points" in prompt:
        return "notes 0"
    if "critical colleague" in prompt:
        return f"What of {part(prompt, 'notes')}?"
    if "A colleague has" in prompt:
        assert part(prompt, "comment") == f"What of {part(prompt, 'notes')}?"
        return f"notes {int(part(prompt, 'notes')[-1]) + 1}"
    if "Make an outline" in prompt:
        return f"outline of {part(prompt, 'notes')}"
    if "Check it against the rules" not in prompt and "The rules for it were" in prompt:
        raise AssertionError(prompt)
    if "The rules for it were" in prompt:
        return "check: too long"
    if "mended where the checker is right" in prompt:
        assert part(prompt, "check") == "check: too long"
        return f"outline mended, of {part(prompt, 'notes')}"
    if "Do not write it yet" in prompt:
        return f"thought after [{part(prompt, 'before')}]"
    if "this paragraph alone" in prompt:
        number = prompt.split("\nParagraph ")[1].split(" ")[0]
        return f"Here:\n$$draft {number}, seen {part(prompt, 'before').count('draft')}$$"
    text, paragraph = part(prompt, "text"), part(prompt, "paragraph")
    if "Check this paragraph" in prompt:
        if (
            paragraph.startswith("draft 2")
            and "pass it" in request["messages"][0]["content"].split("asked for")[1][:40]
        ):
            return '{"passed": true}'
        return json.dumps({"suggestions": [f"{text.count('final')} are final", "be brief"]})
    assert "* be brief" in prompt
    return f"$$final of {paragraph}$$"


def test_it_finishes_against_every_fault(tmp_path: Path) -> None:
    rows = [{"id": f"t{number}", "instruction": f"Write {number}."} for number in range(3)]
    data, rejected = finishes("superwriter", rows, answer, tmp_path, num_calls=3 * (9 + 6 + 6) - 2)  # one extraction
    assert [row["id"] for row in data] == [f"t{n}#{k}" for n in range(3) for k in range(3)] and not rejected
    plan, write, refine = data[:3]
    asked, said = (message["content"] for message in plan["messages"])
    assert asked == thoughts.prompt("plan", ["Write 0."])
    thinking, answers = thoughts.read(said)
    assert answers == ["notes 2", "T\n1. Point 1. (300 words)\n2. Point 2. (300 words)\n3. Point 3. (300 words)"]
    assert thinking == ["notes 0\n\nWhat of notes 0?\n\nWhat of notes 1?", "outline of notes 2\n\ncheck: too long"]
    assert [step["kind"] for step in plan["steps"]] == [
        "think",
        "comment",
        "revise",
        "comment",
        "revise",
        "outline",
        "check_outline",
        "revise_outline",
        "extract",
    ]
    asked, said = (message["content"] for message in write["messages"])
    assert asked == thoughts.prompt("write", answers)
    thinking, drafts = thoughts.read(said)
    assert drafts == ["draft 1, seen 0", "draft 2, seen 1", "draft 3, seen 1"]
    assert thinking == [
        "thought after [(nothing yet)]",
        "thought after [draft 1, seen 0]",
        "thought after [draft 2, seen 1]",
    ]
    asked, said = (message["content"] for message in refine["messages"])
    assert asked == thoughts.prompt("refine", drafts)
    thinking, final = thoughts.read(said)
    assert final == [f"final of {draft}" for draft in drafts] and thinking[2] == "2 are final\nbe brief"
    assert [step["agent"] for step in refine["steps"]] == ["checker", "editor"] * 3
    assert said.endswith("<end>") and refine["words"] == 3 * 4 == 12


def test_the_code_shows_all_paragraphs_before(tmp_path: Path) -> None:
    data, _ = finishes("superwriter", [{"instruction": "a"}], answer, tmp_path, faults=0, options={"seen": "all"})
    drafts = thoughts.read(data[1]["messages"][1]["content"]).answers
    assert drafts == ["draft 1, seen 0", "draft 2, seen 1", "draft 3, seen 2"]


def test_a_passed_paragraph_is_no_refinement(tmp_path: Path) -> None:
    rows = [{"id": "a", "instruction": "pass it"}]
    data, (rejected,) = finishes("superwriter", rows, answer, tmp_path, faults=0, num_calls=9 + 6 + 5)
    assert [row["step"] for row in data] == ["plan", "write"]
    assert rejected["id"] == "a#2" and rejected["reason"] == "a checker passed paragraph 2"


def test_samples_that_are_too_long(tmp_path: Path) -> None:
    data, rejected = finishes(
        "superwriter", [{"id": "a", "instruction": "x"}], answer, tmp_path, faults=0, options={"sample_tokens": 9}
    )
    assert not data and len(rejected) == 3 and all("more than 9" in row["reason"] for row in rejected)


@pytest.mark.parametrize(("limit", "value"), [("max_paragraphs", 2), ("max_words", 899)])
def test_outlines_keep_to_their_limits(tmp_path: Path, limit: str, value: int) -> None:
    rows = [{"id": "a", "instruction": "x"}]
    data, (rejected,) = finishes(
        "superwriter", rows, answer, tmp_path, faults=0, num_calls=9 + 2, options={limit: value}
    )
    assert not data and "3 paragraphs of 900 words; at most" in rejected["reason"]


def test_one_suggestion_is_not_enough(tmp_path: Path) -> None:
    def lazy(request: dict[str, Any]) -> str:
        if "Check this paragraph" in request["messages"][0]["content"]:
            return '{"suggestions": ["better"]}'
        return answer(request)

    _, (rejected,) = finishes("superwriter", [{"id": "a", "instruction": "x"}], lazy, tmp_path, faults=0)
    assert rejected["stage"] == "refine" and "at least 2" in rejected["reason"]


def test_text_between_marks() -> None:
    assert between_marks("so: $$ a $$x^2$$ b $$.") == "a $$x^2$$ b"
    for none in ("", "$$", "$$ $$", "plain", "$$half"):
        with pytest.raises(Malformed):
            between_marks(none)
