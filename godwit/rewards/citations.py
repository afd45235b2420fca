"""Statements with sentence citations: LongCite's output format, read from whatever a model wrote.

    <statement>TEXT<cite>[3-5][9-9]</cite></statement>      spans are sentence numbers from 0, both ends included

Source: LongCite (arXiv 2409.02897, section 3) and its released code; the rules, of which a test holds each one:
    * text outside statements counts as an uncited statement if more than 5 characters remain after trimming;
    * a statement runs to the next closing tag, so tags inside it are part of its text; one never closed is dropped, and
      all behind it; a blank one is no statement;
    * all `<cite>` elements of a statement are read, in order; a span is `[int-int]`, single numbers are ignored;
    * a span that starts behind the last sentence or ends before it starts is ignored, one that ends too late clipped;
    * a span that starts right behind the end of the one before is joined to it; then the first 3 are kept.
Paper and code agree. Time is linear in the length of the answer; numbers may have any number of digits.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from godwit.text.forms import Room, whole_number
from godwit.text.replies import elements, without_elements

MAX_SPANS = 3
MAX_STATEMENTS = 40
"""The benchmark judges no more than so many statements of an answer, from the first."""
MIN_STRAY_CHARACTERS = 6
_SPAN = re.compile(r"\[([0-9]+)-([0-9]+)\]")
_OPEN, _CLOSE = "<statement>", "</statement>"
_FAR = 10**18
"""Stands for a number of more digits than any text has sentences (Python refuses to read one of 5,000 digits)."""


class Span(NamedTuple):
    """Sentences `first` to `last`, numbered from 0, both included."""

    first: int
    last: int


@dataclass(frozen=True)
class Statement:
    """One statement of an answer, without its tags, and the sentences it cites (none: an uncited one)."""

    text: str
    spans: tuple[Span, ...] = ()


def parse_statements(answer: str, num_sentences: int) -> list[Statement]:
    """The statements of an answer about a context of `num_sentences` sentences; see the rules above."""
    return [Statement(text, tuple(parse_spans(cites, num_sentences))) for text, cites in split_statements(answer)]


def split_statements(answer: str) -> list[tuple[str, str]]:
    """Text of each statement, and what its `<cite>` elements hold (one a line), by the first three rules above."""
    statements: list[tuple[str, str]] = []
    place = 0
    while True:
        start = answer.find(_OPEN, place)
        stray = answer[place:] if start < 0 else answer[place:start]
        if len(stray.strip()) >= MIN_STRAY_CHARACTERS:
            statements.append((stray, ""))
        end = answer.find(_CLOSE, start) if start >= 0 else -1
        if end < 0:
            return statements
        inner = answer[start + len(_OPEN) : end]
        if inner.strip():
            cites = "".join(f"{cite}\n" for cite in elements(inner, "cite"))
            statements.append((without_elements(inner, "cite"), cites))
        place = end + len(_CLOSE)


def parse_spans(cite: str, num_sentences: int, *, max_spans: int | None = MAX_SPANS, join: bool = True) -> list[Span]:
    """The spans in the text of a `<cite>` element: clipped, the first `max_spans` (None all).

    Args:
        join: make one of two that adjoin, before they are counted.
    """
    spans: list[Span] = []
    for match in _SPAN.finditer(cite):
        first, last = _number(match[1]), _number(match[2])
        if first > num_sentences - 1 or last < first:
            continue
        last = min(last, num_sentences - 1)
        if join and spans and first == spans[-1].last + 1:
            spans[-1] = Span(spans[-1].first, last)
        else:
            spans.append(Span(first, last))
    return spans[:max_spans]


def span_form(num_sentences: int) -> str:
    """One span that a context of `num_sentences` sentences (one or more) has."""
    last = num_sentences - 1
    return rf"\[(?:{'|'.join(f'{first}-{whole_number(first, last)}' for first in range(num_sentences))})\]"


def statements_form(room: Room, num_sentences: int) -> str:
    """Of answers in the format above, about a context of so many sentences; the last statement of one cites."""

    def statement(least: int) -> str:
        spans = f"(?:{span_form(num_sentences)}){{{least},{MAX_SPANS}}}"
        return f"<statement>{room.inside()}<cite>{spans}</cite></statement>"

    return f"(?:{statement(0)}){'*' if room.items is None else '?'}{statement(1)}"


def cited_texts(statement: Statement, sentences: Sequence[str]) -> list[str]:
    """What each span of a statement cites.

    Args:
        sentences: `text.sentences.sentence_texts` of the context, so that white space belongs to the one before it.
    """
    return ["".join(sentences[span.first : span.last + 1]) for span in statement.spans]


def plain_answer(answer: str) -> str:
    """The answer without citations and statement tags, as judges of its correctness see it."""
    return without_elements(answer, "cite").replace(_OPEN, "").replace(_CLOSE, "")


def write_statement(statement: Statement) -> str:
    """A statement in the format above."""
    spans = "".join(f"[{span.first}-{span.last}]" for span in statement.spans)
    return f"{_OPEN}{statement.text}<cite>{spans}</cite>{_CLOSE}"


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= 18 else _FAR
