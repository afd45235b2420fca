"""What stands in a model's reply: elements between tags, a JSON object, the part behind its thoughts.

A reply is garbage until shown otherwise. Everything here takes time linear in its length, raises nothing for what it
finds, and evaluates nothing: what does not parse is `None` or an empty list, and the caller says what that means.
"""

import json
import re
from typing import Any

MAX_BRACES_TRIED = 20
"""How many `{` are tried as the start of an object: enough for prose in front, too few for a page of braces to cost."""
_FENCE = re.compile(r"```[A-Za-z]*[ \t]*\n")


def elements(text: str, tag: str) -> list[str]:
    """Contents of `<tag>...</tag>`, in order; an opening tag ends at the next closing one, one left open is dropped.

    >>> elements("a<s>b</s>c<s>d<s>e</s>f<s>g", "s")
    ['b', 'd<s>e']
    """
    return [inner for _outer, inner in _walk(text, tag) if inner is not None]


def without_elements(text: str, tag: str) -> str:
    """`text` without `<tag>...</tag>` and what they hold; an element that is not closed stays."""
    return "".join(outer for outer, _inner in _walk(text, tag))


def after_thoughts(text: str) -> str:
    """The part behind the last `</think>`; the whole if there is none."""
    return text.rpartition("</think>")[2]


def json_object(text: str) -> dict[str, Any] | None:
    """The first JSON object of a reply: behind its thoughts, in a fence if there is one, prose around it ignored.

    None if there is none, or one whose nesting or numbers are beyond what Python's parser takes.
    """
    text = after_thoughts(text)
    fence = _FENCE.search(text)
    for part in ([text[fence.end() :]] if fence else []) + [text]:
        found = _first_object(part)
        if found is not None:
            return found
    return None


def _first_object(text: str) -> dict[str, Any] | None:
    decoder = json.JSONDecoder(strict=False)  # line breaks inside strings are common in replies
    place = text.find("{")
    for _ in range(MAX_BRACES_TRIED):
        if place < 0:
            return None
        try:
            found, _end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            place = text.find("{", place + 1)
            continue
        return found
    return None


def _walk(text: str, tag: str) -> list[tuple[str, str | None]]:
    """Pairs (text before an element, its content); the last pair has the rest of the text and None."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    pairs: list[tuple[str, str | None]] = []
    place = 0
    while (start := text.find(opening, place)) >= 0:
        end = text.find(closing, start + len(opening))
        if end < 0:
            break
        pairs.append((text[place:start], text[start + len(opening) : end]))
        place = end + len(closing)
    pairs.append((text[place:], None))
    return pairs
