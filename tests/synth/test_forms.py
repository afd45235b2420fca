"""Forms in pipelines: each is taken by the parser beside it; requests have them only where they are asked for."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from godwit.rewards import longreward
from godwit.synth import run, thoughts
from godwit.synth.pipelines import iterdpo, longcite_cof, selfinstruct_longqa, superwriter, superwriter_dpo
from godwit.text.forms import REHEARSAL, Form, Room
from tests.synth import endpoint as scripted
from tests.synth.harness import plan_for, read_rows, write_rows
from tests.synth.pipelines.test_agentwrite import answer
from tests.text.forms import holds

SENTENCES = ["It rained (a lot) in 1902. ", "Why? \n\n", "Nobody knows: [3] + {x}.", "没有人知道。", "End.\n"]


def _outline(text: str) -> superwriter.Outline:
    found = superwriter.Outline.model_validate(json.loads(text))
    assert 1 <= len(found.paragraphs) <= 10 and all(each.word_count <= 8000 for each in found.paragraphs)
    return found


def _step(step: thoughts.Step, paragraphs: tuple[int, int] | None) -> Callable[[str], Any]:
    # As the pipeline cuts it: the stop string ends the answer.
    return lambda text: None if thoughts.fault(step, text.partition("<end>")[0], paragraphs=paragraphs) else text


@pytest.mark.parametrize(
    ("form", "readable"),
    [
        pytest.param(iterdpo.correction_form, iterdpo.correction, id="iterdpo"),
        pytest.param(selfinstruct_longqa.numbered_form, selfinstruct_longqa.numbered, id="selfinstruct_longqa"),
        pytest.param(superwriter.marked_form, superwriter.between_marks, id="superwriter text"),
        pytest.param(superwriter.check_form, superwriter.check_of, id="superwriter check"),
        pytest.param(
            lambda room: superwriter.outline_form(room, paragraphs=10, words=8000), _outline, id="superwriter outline"
        ),
        pytest.param(lambda room: thoughts.form("plan", room), _step("plan", None), id="superwriter_dpo plan"),
        pytest.param(
            lambda room: thoughts.form("write", room, paragraphs=(4, 12)), _step("write", (4, 12)), id="superwriter_dpo"
        ),
        pytest.param(lambda room: thoughts.form("refine", room), _step("refine", None), id="superwriter_dpo refine"),
        pytest.param(superwriter_dpo.criteria_form, superwriter_dpo.chosen_criteria, id="superwriter_dpo criteria"),
        pytest.param(superwriter_dpo.grade_form, superwriter_dpo.grade, id="superwriter_dpo grade"),
        pytest.param(longreward.dimension_form, longreward.dimension_rating, id="longreward rating"),
        pytest.param(longreward.fact_support_form, longreward.fact_support, id="longreward support"),
        pytest.param(longreward.facts_form, lambda text: longreward.facts_of(text) or None, id="longreward facts"),
        pytest.param(
            lambda room: longcite_cof.coarse_form(room, SENTENCES, 12),
            lambda text: longcite_cof.parse_coarse(text, 12, answer="".join(SENTENCES)),
            id="longcite_cof chunks",
        ),
        pytest.param(
            lambda room: longcite_cof.local_form(room, 23),
            lambda text: longcite_cof.local_spans(text, 23),
            id="longcite_cof",
        ),
    ],
)
def test_what_a_form_allows_is_read(form: Form, readable: Callable[[str], Any]) -> None:
    holds(form, readable)


def test_requests_have_forms_only_where_they_are_asked_for(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [{"id": "a", "instruction": "Write it."}])
    with scripted.serving(answer) as served:
        plan = plan_for("agentwrite", source, tmp_path / "out", served.url)
        run.run(plan)
        assert len(served.bodies) == 5
        assert not any({"structured_outputs", "response_format"} & body.keys() for body in served.bodies)
        without = (tmp_path / "out" / "data.jsonl").read_bytes()

        held = replace(plan, endpoints={"writer": replace(plan.endpoints["writer"], room=Room())})
        assert run.run(held).num_sent == 5
        planning, *writing = served.bodies[5:]
        assert planning["response_format"]["json_schema"]["schema"]["$defs"]["Section"]["properties"]["words"] == {
            "maximum": 20_000, "minimum": 1, "title": "Words", "type": "integer"
        }  # fmt: skip
        assert "structured_outputs" not in planning
        assert [body["structured_outputs"] for body in writing] == [{"regex": Room().text()}] * 4

        # The form is part of what is asked: answers given without one are others, and still there.
        assert run.run(plan).num_sent == 0
        assert (tmp_path / "out" / "data.jsonl").read_bytes() == without
        assert json.loads((tmp_path / "out" / "config.json").read_text())["models"]["writer"] == {
            "model": "writer-1", "extra": {}
        }  # fmt: skip


def test_a_rehearsal_has_less_room_and_says_so(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [{"id": "a", "instruction": "Write it."}])
    with scripted.serving(answer) as served:
        plan = plan_for("agentwrite", source, tmp_path / "out", served.url)
        run.run(replace(plan, endpoints={"writer": replace(plan.endpoints["writer"], room=REHEARSAL)}))
    planning, writing = served.bodies[:2]
    sections = planning["response_format"]["json_schema"]["schema"]
    assert sections["properties"]["sections"]["maxItems"] == 2
    assert sections["$defs"]["Section"]["properties"]["main_point"]["maxLength"] == 40
    assert re.fullmatch(writing["structured_outputs"]["regex"], "short")
    assert not re.fullmatch(writing["structured_outputs"]["regex"], "long" * 100)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["models"]["writer"]["forms"] == {
        "characters": 40, "items": 2, "number": 400, "least": 1
    }  # fmt: skip
    assert len(read_rows(tmp_path / "out" / "data.jsonl")) == 1
