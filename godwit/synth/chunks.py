"""Cutting long texts into pieces of so many tokens, as spans of characters: what is shown is always the text itself.

Upstream decodes token ids and has to search the text for what comes out; offsets spare that. Without a tokenizer, sizes
are estimates (`endpoint.estimate_tokens`) and pieces end at blanks where there are any.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from godwit.synth.endpoint import estimate_tokens
from godwit.text.tokenizer import Tokenizer

_WORDS = re.compile(r"\s*(?:[^\s\u2e80-\U0003ffff]{1,40}|[\u2e80-\U0003ffff])\s*?")


class Span(NamedTuple):
    """Characters [start, end)."""

    start: int
    end: int


def chunks(text: str, size: int, *, tokenizer: Tokenizer | None = None) -> list[Span]:
    """Spans of `size` tokens each (the last may be shorter) that make up all of `text`, without overlap."""
    assert size >= 1, size
    if not text:
        return []
    ends = list(_token_ends(text, size, tokenizer) if tokenizer is not None else _word_ends(text, size))
    if not ends or ends[-1] != len(text):
        ends.append(len(text))
    return [Span(start, end) for start, end in zip([0, *ends], ends) if end > start]


@cache
def tokenizer_in(folder: str) -> Tokenizer | None:
    """The tokenizer of a model folder, read once; None for "", which means estimates."""
    return Tokenizer.load(folder) if folder else None


def _token_ends(text: str, size: int, tokenizer: Tokenizer) -> Iterator[int]:
    _, offsets = tokenizer.encode_with_offsets(text)
    return (end for _, end in offsets[size - 1 :: size])


def _word_ends(text: str, size: int) -> Iterator[int]:
    start = 0
    end = 0
    for word in _WORDS.finditer(text):
        if end > start and estimate_tokens(text[start : word.end()]) > size:
            yield end
            start = end
        end = word.end()
