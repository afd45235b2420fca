"""Forms in benchmarks: each is taken by the parser beside it; only a rehearsal's requests have them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from godwit.cli.verbs import eval as verb
from godwit.evals.benchmarks import arena_write
from godwit.evals.harness.result import read_result
from godwit.evals.metrics import longbench_v2, writingbench
from godwit.rewards import citation_scores, citations, correctness, quality
from godwit.text.forms import Form
from tests.synth.endpoint import KEY, serving
from tests.text.forms import holds

NUM_SENTENCES = 14


def _statements(text: str) -> Any:
    found = citations.parse_statements(text, NUM_SENTENCES)
    assert len(found) == text.count("<statement>") and found[-1].spans
    return found


@pytest.mark.parametrize(
    ("form", "readable"),
    [
        pytest.param(quality.quality_form, quality.parse_quality, id="quality"),
        pytest.param(writingbench.score_form, writingbench.parse_score, id="writingbench"),
        pytest.param(arena_write.vote_form, arena_write.parse_vote, id="arena_write"),
        pytest.param(longbench_v2.answer_form, longbench_v2.extract_answer, id="longbench_v2"),
        pytest.param(citation_scores.support_form, citation_scores.support_of, id="support"),
        pytest.param(citation_scores.relevance_form, citation_scores.relevance_of, id="relevance"),
        pytest.param(citation_scores.need_form, citation_scores.needs_citation, id="need"),
        *(
            pytest.param(
                correctness.correctness_form(scale),
                lambda text, scale=scale: correctness.correctness_of(text, scale),
                id=scale,
            )
            for scale in ("qa", "summary", "chat")
        ),
        pytest.param(lambda room: citations.statements_form(room, NUM_SENTENCES), _statements, id="statements"),
    ],
)
def test_what_a_form_allows_is_read(form: Form, readable: Callable[[str], Any]) -> None:
    holds(form, readable)


def test_each_span_that_a_form_allows_is_one_of_the_context() -> None:
    def spans(text: str) -> Any:
        (span,) = citations.parse_spans(text, NUM_SENTENCES)
        return text if text == f"[{span.first}-{span.last}]" else None

    holds(lambda _: citations.span_form(NUM_SENTENCES), spans)


def test_a_real_model_and_judge_are_not_held_to_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("inspect_ai")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "inspect"))
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"prompt": "Write 100 words.", "length": 100}))
    ratings = json.dumps(dict.fromkeys(quality.DIMENSIONS, 4))
    with serving(lambda request: ratings if request["model"] == "judge-1" else "word " * 100) as endpoint:
        words = ["--model", endpoint.url, "--model-name", "writer-1"]
        words += ["--judge", endpoint.url, "--judge-name", "judge-1"]
        assert verb.run(["longbench_write", *words, "--data", str(data), "--out", str(tmp_path / "out")]) == 0
        assert len(endpoint.bodies) >= 2
        assert not any({"structured_outputs", "chat_template_kwargs"} & body.keys() for body in endpoint.bodies)
    assert not read_result(tmp_path / "out").rehearsal
