import json
from pathlib import Path

import pytest

from godwit.synth.pipelines.selfinstruct_longqa import KINDS, language_of, numbered
from godwit.synth.rows import Malformed
from tests.synth.endpoint import prompt_of
from tests.synth.harness import finishes


def answer(request: dict) -> str:
    prompt = prompt_of(request)
    if "five different questions" in prompt:
        return "Here they are.\n" + "\n".join(f"{number}: what is number {number}?" for number in range(1, 6))
    return "It is number " + prompt.rsplit("number ", 1)[1]


def test_it_finishes_against_every_fault(tmp_path: Path) -> None:
    rows = [{"id": f"d{number}", "context": f"Document {number}. " * 20} for number in range(12)]
    data, rejected = finishes("selfinstruct_longqa", rows, answer, tmp_path, num_calls=24)
    assert [row["id"] for row in data] == sorted(row["id"] for row in rows) and not rejected
    for row in data:
        assert row["kind"] in KINDS and row["language"] in ("en", "zh")
        assert row["answer"] == f"It is {row['query'].removeprefix('what is ')}"
    assert len({row["query"] for row in data}) > 1


def test_answers_without_questions_are_dropped_with_the_reason(tmp_path: Path) -> None:
    rows = [{"id": "d", "context": "text"}]
    data, (rejected,) = finishes("selfinstruct_longqa", rows, lambda _: "No questions today.", tmp_path, num_calls=3)
    assert not data
    assert rejected["status"] == "dropped" and rejected["stage"] == "ask_question"
    assert "begin with a number" in rejected["reason"] and len(rejected["provenance"]["prompt_hashes"]) == 3


def test_language_by_letters() -> None:
    assert language_of("plain English") == "en"
    assert (
        language_of("这是中文 with a few more English words") == "en"
        and language_of("这是中文，只有 two words") == "zh"
    )
    assert language_of("abcd" + "中") == "zh" and language_of("abcde" + "中") == "en"


def test_numbered_lines() -> None:
    assert numbered("1: a?\n 2. b?\n3：三?\nand 4: not this") == ["a?", "b?", "三?"]
    with pytest.raises(Malformed):
        numbered(json.dumps(["1: a?"]))
