"""LongCite's format from good, odd and hostile answers, rule by rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from godwit.rewards.citations import (
    Span,
    Statement,
    cited_texts,
    parse_spans,
    parse_statements,
    plain_answer,
    write_statement,
)

PARTS = ["<statement>", "</statement>", "<cite>", "</cite>", "[0-1]", "[3-2]", "[7]", "[99-100]", "text here", " ", "<"]


def test_a_good_answer() -> None:
    answer = "<statement>A is B.<cite>[0-1][4-4]</cite></statement>\n<statement>So C.<cite></cite></statement>"
    assert parse_statements(answer, 10) == [Statement("A is B.", (Span(0, 1), Span(4, 4))), Statement("So C.")]
    assert plain_answer(answer) == "A is B.\nSo C."


@pytest.mark.parametrize(
    ("cite", "expected"),
    [
        ("[5]", []),  # single numbers are ignored
        ("[5-4]", []),  # reversed
        ("[10-12]", []),  # starts behind the last of 10 sentences
        ("[8-12]", [(8, 9)]),  # ends too late: clipped
        ("[0-1][2-3]", [(0, 3)]),  # adjacent: joined
        ("[2-3][0-1]", [(2, 3), (0, 1)]),  # not in this order
        ("[0-3][2-5]", [(0, 3), (2, 5)]),  # overlapping is not adjacent
        ("[0-0][2-2][4-4][6-6]", [(0, 0), (2, 2), (4, 4)]),  # at most 3 ...
        ("[0-0][2-2][4-4][5-6][8-8]", [(0, 0), (2, 2), (4, 6)]),  # ... after joining
        ("[-3-4] [1 - 2] [a-b] [1-2-3] [1.0-2]", []),
        ("[[1-2]]", [(1, 2)]),
        ("[007-008]", [(7, 8)]),
        ("[0-" + "9" * 6000 + "]", [(0, 9)]),  # more digits than Python reads
        ("[" + "9" * 6000 + "-" + "9" * 6000 + "]", []),
        ("[١-٢]", []),  # digits of other scripts
        ("", []),
    ],
)
def test_spans(cite: str, expected: list[tuple[int, int]]) -> None:
    assert parse_spans(cite, 10) == expected


def test_no_sentences_no_spans() -> None:
    assert parse_spans("[0-0]", 0) == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", []),
        ("12345", []),  # 5 characters outside statements are no statement
        ("  12345  ", []),
        ("123456", [Statement("123456")]),
        (
            "<statement>a<cite>[0-0]</cite></statement> and some more",
            [Statement("a", (Span(0, 0),)), Statement(" and some more")],
        ),
        ("<statement>never closed<cite>[0-0]</cite>", []),  # dropped, and all behind it
        ("before it <statement>never closed", [Statement("before it ")]),
        ("<statement>   </statement>", []),
        (
            "<statement>a<statement>b<cite>[1-1]</cite></statement></statement>",
            [Statement("a<statement>b", (Span(1, 1),)), Statement("</statement>")],
        ),
        ("<statement><cite>[1-1]</cite></statement>", [Statement("", (Span(1, 1),))]),
        ("<statement>a<cite>[0-0]</cite>b<cite>[1-1]</cite></statement>", [Statement("ab", (Span(0, 1),))]),
        ("<statement>a<cite>[0-0]</statement>", [Statement("a<cite>[0-0]")]),  # open cite: part of the text
        ("<statement>a[0-0]</statement>", [Statement("a[0-0]")]),  # spans count inside cite only
        ("<statement>a<cite>[0</cite><cite>-1]</cite></statement>", [Statement("a")]),  # no span out of two halves
    ],
)
def test_odd_answers(answer: str, expected: list[Statement]) -> None:
    assert parse_statements(answer, 5) == expected


@given(st.lists(st.sampled_from(PARTS), max_size=30), st.integers(0, 5))
def test_whatever_comes_spans_are_in_range_and_at_most_three(parts: list[str], num_sentences: int) -> None:
    for statement in parse_statements("".join(parts), num_sentences):
        assert len(statement.spans) <= 3
        assert all(0 <= span.first <= span.last < num_sentences for span in statement.spans)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=3))
def test_written_and_read_again(pairs: list[tuple[int, int]]) -> None:
    spans = parse_spans("".join(f"[{a}-{b}]" for a, b in pairs), 10)
    statement = Statement("Some text.", tuple(spans))
    assert parse_statements(write_statement(statement), 10) == [statement]


def test_cited_text_keeps_white_space_inside_and_behind() -> None:
    sentences = ["One.  ", "Two.\n\n", "Three."]
    assert cited_texts(Statement("s", (Span(0, 1), Span(2, 2))), sentences) == ["One.  Two.\n\n", "Three."]


@pytest.mark.parametrize(
    "answer",
    [
        "<statement>" * 900_000,
        "<cite>" * 1_600_000,
        "<statement>x<cite>" + "[0-1]" * 400_000 + "</cite></statement>",
        "<statement>x<cite>[" + "1" * 10_000_000 + "</cite></statement>",
        ("<statement>x<cite>" + "[1" * 3) * 400_000,
        "<statement></statement>" * 400_000,
        "\x00\ud800" * 1000,
    ],
    ids=["open", "cites", "spans", "digits", "mixed", "blank", "surrogates"],
)
def test_ten_megabytes_take_linear_time(answer: str) -> None:
    assert len(parse_statements(answer, 5)) <= 1
    plain_answer(answer)
