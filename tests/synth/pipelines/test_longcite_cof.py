import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from godwit.base.errors import GodwitError
from godwit.rewards.citations import Span, parse_statements
from godwit.synth import chunks, run
from godwit.synth.pipelines.longcite_cof import (
    distinct,
    enough_cited,
    local_spans,
    num_retrieved,
    parse_coarse,
    passage_text,
    shown_sentences,
    to_global,
    windows,
)
from godwit.synth.rows import Malformed
from godwit.text.sentences import Sentence
from tests.synth import endpoint as scripted
from tests.synth.harness import finishes, plan_for, read_rows, write_rows

ANSWER = "Here it is. Anna Brandt built it. Jon rowed out three times. So it stands."


def document(name: str) -> str:
    lines = [f"Filler sentence number {number} of {name} says nothing of worth." for number in range(60)]
    lines[20] = "The lighthouse was built by Anna Brandt."
    lines[45] = "Keeper Jon Halvorsen rowed out three times."
    return " ".join(lines)


CONTEXT = document("it")


def answer(request: dict[str, Any]) -> str:
    """Finds what it is asked for by its words."""
    prompt = request["messages"][0]["content"]
    if "five different questions" in prompt:
        return "1: who built it?\n2: who rowed?"
    if "Repeat the answer" in prompt:
        snippets = dict(re.findall(r"^\[(\d+)\] (.*)$", prompt.split("Now the snippets:")[1], flags=re.MULTILINE))

        def cited(word: str) -> str:
            return "".join(f"[{number}]" for number, text in snippets.items() if word in text)

        return (
            "<statement>Here it is.<cite></cite></statement>\n"
            f"<statement>Anna Brandt built it.<cite>{cited('Brandt')}</cite></statement>"
            f"<statement>Jon rowed out three times.<cite>{cited('rowed')}[999]</cite></statement>"
            "<statement>So it stands.<cite></cite></statement>"
        )
    if prompt.endswith("Spans:"):
        passage, statement = prompt.rsplit("Passage: ", 1)[1].split("\nStatement: ")
        word = "Brandt" if "Brandt" in statement else "rowed"
        number = next(n for n, text in re.findall(r"<C(\d+)>([^<]*)", passage) if word in text)
        return f"[{number}-{number}][9-2]"
    return ANSWER


def test_it_finishes_against_every_fault(tmp_path: Path) -> None:
    rows = [{"id": f"d{number}", "context": document(f"d{number}")} for number in range(4)]
    data, rejected = finishes("longcite_cof", rows, answer, tmp_path, num_calls=4 * 5, options={"splitter": "punkt"})
    assert [row["id"] for row in data] == ["d0", "d1", "d2", "d3"] and not rejected
    for row in data:
        prompt, said = (message["content"] for message in row["messages"])
        assert "<C20>The lighthouse was built by Anna Brandt. <C21>" in prompt
        statements = parse_statements(said, 60)
        assert [statement.spans for statement in statements] == [(), ((20, 20),), ((45, 45),), ()]
        assert " ".join(statement.text for statement in statements) == row["answer"] == ANSWER
        assert (row["num_statements"], row["num_cited"]) == (4, 2) and row["splitter"].startswith("punkt/nltk-")


def test_given_questions_and_answers_are_not_asked_for_again(tmp_path: Path) -> None:
    rows = [
        {"id": "both", "context": CONTEXT, "query": "Who?", "answer": ANSWER},
        {"id": "query", "context": CONTEXT, "query": "Who, then?"},
    ]
    data, _ = finishes("longcite_cof", rows, answer, tmp_path, num_calls=1 + (1 + 2) + 1)  # extractions are the same
    assert {row["query"] for row in data} == {"Who?", "Who, then?"} and {row["kind"] for row in data} == {"given"}


def test_an_answer_without_its_question_is_a_fault_of_the_input(tmp_path: Path) -> None:
    with pytest.raises(GodwitError, match=r"line 1: .*there is an answer and no query"):
        finishes("longcite_cof", [{"context": "x", "answer": "y"}], answer, tmp_path)


def test_a_changed_answer_is_mended_or_dropped(tmp_path: Path) -> None:
    def forgetful(request: dict[str, Any]) -> str:
        return answer(request).replace("So it stands.", "") if request["max_tokens"] == 4096 else answer(request)

    rows = [{"id": "a", "context": CONTEXT, "query": "Who?", "answer": ANSWER}]
    data, (rejected,) = finishes("longcite_cof", rows, forgetful, tmp_path, num_calls=3)
    assert not data and rejected["stage"] == "cite_chunks" and "word for word" in rejected["reason"]
    (tmp_path / "loose").mkdir()
    data, _ = finishes("longcite_cof", rows, forgetful, tmp_path / "loose", options={"verbatim": False})
    assert data[0]["num_statements"] == 3


def test_the_document_must_not_have_marks_of_its_own(tmp_path: Path) -> None:
    rows = [{"id": "a", "context": "It says <C0> here."}]
    _, (rejected,) = finishes("longcite_cof", rows, answer, tmp_path, num_calls=0)
    assert "marks of the citation format" in rejected["reason"]


def test_the_filter_both_ways(tmp_path: Path) -> None:
    for cited, total, kept in [(1, 4, True), (1, 5, True), (1, 6, False), (3, 15, True), (0, 1, False), (0, 0, False)]:
        assert enough_cited(cited, total) is enough_cited(cited, total, rule="code") is kept
    for total in range(60):
        for cited in range(total + 1):
            paper = total > 0 and not cited / total < 0.2
            code = cited != 0 and not (total >= 5 and cited / total < 0.2)
            assert (paper, code) == (enough_cited(cited, total), enough_cited(cited, total, rule="code"))
            assert paper == code  # of fewer than 5 statements one is 20 % anyway
    rows = [{"id": "a", "context": CONTEXT, "query": "Who?", "answer": "Here it is. No more."}]

    def uncited(request: dict[str, Any]) -> str:
        return "<statement>Here it is. No more.<cite></cite></statement>"

    for rule in ("paper", "code"):
        (tmp_path / rule).mkdir()
        _, (rejected,) = finishes("longcite_cof", rows, uncited, tmp_path / rule, options={"filter": rule})
        assert rejected["reason"] == "0 of 1 statements cite" and rejected["stage"] == "keep"


def test_kinds_of_questions_are_not_upstreams(tmp_path: Path) -> None:
    rows = [{"id": str(number), "context": document(f"d{number}")} for number in range(16)]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    counts = {}
    for mix in ("even", "code"):
        with scripted.serving(answer) as served:
            run.run(plan_for("longcite_cof", source, tmp_path / mix, served.url, options={"mix": mix}))
        counts[mix] = Counter(row["kind"] for row in read_rows(tmp_path / mix / "data.jsonl"))
    assert set(counts["even"]) == {"integration", "multi-hop", "general", "information-seeking"}
    assert counts["code"]["integration"] == 0 and sum(counts["code"].values()) == 16


def test_both_splitters_number_in_their_way(tmp_path: Path) -> None:
    text = " ".join(
        f"Dr. Brandt went to the town, and Dr. Rao saw {name} there." for name in ("her", "him", "them", "us")
    )
    rows = [{"id": "a", "context": text, "query": "Who?", "answer": "Brandt."}]

    def reply(request: dict[str, Any]) -> str:
        if request["max_tokens"] == 4096:
            return "<statement>Brandt.<cite>[1]</cite></statement>"
        return "[0-0]"

    marks = {}
    for splitter in ("punkt", "punkt-trained"):
        (tmp_path / splitter).mkdir()
        data, _ = finishes("longcite_cof", rows, reply, tmp_path / splitter, options={"splitter": splitter})
        assert data[0]["splitter"].startswith(f"{splitter}/nltk-")
        marks[splitter] = data[0]["messages"][0]["content"].count("<C") - 3  # three in the task's own words
    assert marks["punkt"] > marks["punkt-trained"]


def test_how_many_chunks_a_sentence_retrieves() -> None:
    assert [num_retrieved(n) for n in (0, 1, 4, 5, 6, 39, 40, 41, 500)] == [10, 10, 10, 8, 7, 2, 1, 1, 1]


def test_chunks_that_read_alike_are_shown_once() -> None:
    assert distinct([3, 0, 2, 3, 1], ["a", "b", "a", "c"]) == [0, 1, 3]


def test_statements_with_numbers_of_chunks() -> None:
    text = (
        "<statement>a b<cite>[2][2][7][1][3][4][5][6]</cite></statement> ab "
        "<statement>c<cite>2</cite></statement>stray words"
    )
    assert parse_coarse(text, 6, answer=None) == [("a b", [2, 1, 3, 4, 5]), ("c", []), ("stray words", [])]
    assert parse_coarse(text, 6, answer="a bc stray\nwords")[0][0] == "a b"
    for answer_wanted in ("a b c", ""):
        with pytest.raises(Malformed):
            parse_coarse(text, 6, answer=answer_wanted)
    with pytest.raises(Malformed):
        parse_coarse("no tags at all", 6, answer=None)
    assert parse_coarse("<statement>x<cite>[" + "9" * 5000 + "][0][-1]</cite></statement>", 3, answer=None) == [
        ("x", [])
    ]


PIECES = [chunks.Span(10 * number, 10 * number + 10) for number in range(12)]


def test_windows_around_chunks() -> None:
    assert windows([0], PIECES) == [(0, 20)] and windows([11], PIECES) == [(100, 120)]
    assert windows([5, 5], PIECES) == [(40, 70)]
    assert windows([2, 4], PIECES) == [(10, 60)]  # 1-3 and 3-5 overlap
    assert windows([2, 5], PIECES) == [(10, 70)]  # 1-3 and 4-6 adjoin
    assert windows([9, 2], PIECES) == [(10, 40), (80, 110)]
    assert windows([0], PIECES[:1]) == [(0, 10)] and windows([], PIECES) == []


SENTENCES = [Sentence(15 * number, 15 * number + 14) for number in range(8)]


def test_local_numbers_become_the_documents() -> None:
    passages = shown_sentences([chunks.Span(10, 40), chunks.Span(80, 110)], SENTENCES)
    assert passages == [[0, 1, 2], [5, 6, 7]]  # sentence 0 ends at 14 and sentence 5 at 89: touched
    texts = [f"s{n}. " for n in range(8)]
    assert passage_text(passages, texts) == "<C0>s0. <C1>s1. <C2>s2.\n\n<C3>s5. <C4>s6. <C5>s7."
    assert to_global([Span(1, 1), Span(3, 4)], passages) == [(1, 1), (5, 6)]
    assert to_global([Span(2, 3)], passages) == [(2, 2), (5, 5)]  # never 2-5: 3 and 4 were not shown
    assert to_global([Span(0, 0), Span(4, 4), Span(0, 0), Span(1, 1), Span(2, 2)], passages) == [(0, 0), (6, 6), (1, 1)]


def test_a_sentence_in_two_windows_is_shown_once() -> None:
    long = [Sentence(0, 14), Sentence(15, 100), Sentence(101, 120)]
    assert shown_sentences([chunks.Span(0, 30), chunks.Span(90, 120)], long) == [[0, 1, 2]]
    assert shown_sentences([chunks.Span(14, 15)], long) == []


def test_spans_of_a_reply() -> None:
    assert local_spans("[0-1][1-1] and [2-99], not [3-2] or [7-8] or [4]", 5) == [(0, 1), (1, 1), (2, 4)]
    assert local_spans("[0-0][1-1]", 5) == [(0, 0), (1, 1)]  # adjoining ones stay apart here
    assert local_spans("no relevant information.", 5) == []
    for unusable in ("", "[3-2]", "All of it."):
        with pytest.raises(Malformed):
            local_spans(unusable, 5)
