r"""Forms of answers: regular expressions that a server's grammar can hold a model to, so that each answer can be read.

A form stands beside the parser that reads such answers, as a function of the `Room` that it leaves to the model:

    def vote_form(room: Room) -> str:
        return rf"{room.text()}\[\[(?:A|B|tie)\]\]"

It is sent as `structured_outputs: {"regex": ...}`, vLLM's field, which `godwit serve` takes too. So it is written in
what xgrammar and Python read alike: characters, classes, `(?:...)`, `|`, `?`, `*`, `+`, `{m,n}`; no anchors, no
look-around, no `.`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

_SPECIAL = re.compile(r"[][.^$*+?{}|()\\\x00-\x1f\x7f-]")
_ESCAPES = r'\\["\\/bfnrt]'


@dataclass(frozen=True)
class Room:
    """How much a form leaves to the model; None is as much as it likes.

    Attributes:
        characters: most of a piece of free text.
        items: most things of a list.
        number: highest number where a form names no other.
        least: fewest things of a list that might be empty, so that there is something to see.
    """

    characters: int | None = None
    items: int | None = None
    number: int | None = None
    least: int = 0

    def text(self, *, without: str = "") -> str:
        """Some text, not blank, without these characters."""
        barred = literal(without)
        other = f"[^{barred}]" if without else r"[\s\S]"
        return rf"[^\s{barred}]{other}{self._most(self.characters)}"

    def inside(self) -> str:
        """Some text inside an element: a `<` only where no tag begins (a < b)."""
        return rf"[^\s<](?:[^<]|<[ =0-9]){self._most(self.characters)}"

    def line(self) -> str:
        """Some text on one line."""
        return self.text(without="\r\n")

    def string(self) -> str:
        """A JSON string, not blank."""
        return rf'"[^\s"\\\x00-\x1f](?:[^"\\\x00-\x1f]|{_ESCAPES}){self._most(self.characters)}"'

    def several(self, one: str, *, least: int = 1, most: int | None = None, between: str = "") -> str:
        """`least` to `most` (None: any number) of what matches `one`, with `between` between them."""
        least = least or (self.least if most is None else min(self.least, most))
        bounds = [bound for bound in (most, self.items) if bound is not None]
        highest = max(least, min(bounds)) if bounds else None
        if not least:
            return f"(?:{self.several(one, most=highest, between=between)})?" if highest != 0 else ""
        return f"(?:{one})(?:{between}(?:{one})){{{least - 1},{'' if highest is None else highest - 1}}}"

    def whole_number(self, low: int, high: int) -> str:
        """A whole number from `low` to `high`, to `number` where that is lower."""
        return whole_number(low, high if self.number is None else max(low, min(high, self.number)))

    def schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """A JSON schema with this room for its strings, lists and whole numbers."""
        return schema if self == Room() else _narrowed(schema, self)

    @staticmethod
    def _most(count: int | None) -> str:
        return "*" if count is None else f"{{0,{count - 1}}}"


Form = Callable[[Room], str]

REHEARSAL = Room(characters=40, items=2, number=400, least=1)
"""For a small model that writes on until it is cut: enough to see what an answer looks like."""


def some_text(room: Room) -> str:
    """A form of any text that is not blank."""
    return room.text()


def literal(text: str) -> str:
    """`text` as it is. (`re.escape` leaves line breaks with a backslash before them, which grammars do not read.)"""

    def escaped(found: re.Match[str]) -> str:
        code = ord(found[0])
        return f"\\u{code:04x}" if code < 0x20 or code == 0x7F else f"\\{found[0]}"

    return _SPECIAL.sub(escaped, text)


def one_of(texts: Iterable[str]) -> str:
    """One of these texts, as they are."""
    return f"(?:{'|'.join(map(literal, texts))})"


def whole_number(low: int, high: int) -> str:
    """A whole number from `low` (0 or more) to `high`, without leading zeros.

    >>> whole_number(8, 120)
    '(?:[8-9]|[1-9][0-9]|1[0-1][0-9]|12[0-0])'
    """
    assert 0 <= low <= high, (low, high)
    parts = []
    while low <= high:
        places = 0  # digits at the end that are free
        while low and low % 10 ** (places + 1) == 0 and low + 10 ** (places + 1) - 1 <= high:
            places += 1
        head, first = divmod(low // 10**places, 10)
        last = min(9, first + (high - low + 1) // 10**places - 1)
        parts.append(f"{head or ''}[{first}-{last}]" + (f"[0-9]{{{places}}}" if places > 1 else "[0-9]" * places))
        low += (last - first + 1) * 10**places
    return f"(?:{'|'.join(parts)})"


def _narrowed(schema: dict[str, Any], room: Room) -> dict[str, Any]:
    found = {key: _inside(value, room) for key, value in schema.items()}
    kind = found.get("type")
    if kind == "string" and "enum" not in found and "const" not in found:
        _lower(found, "maxLength", "minLength", room.characters)
    elif kind == "array":
        _lower(found, "maxItems", "minItems", room.items)
    elif kind == "integer":
        _lower(found, "maximum", "minimum", room.number)
    return found


def _inside(value: Any, room: Room) -> Any:
    if isinstance(value, dict):
        return _narrowed(value, room)
    return [_inside(item, room) for item in value] if isinstance(value, list) else value


def _lower(schema: dict[str, Any], highest: str, lowest: str, bound: int | None) -> None:
    """No more than `bound`, but as much as the schema asks for."""
    if bound is not None:
        schema[highest] = max(min(schema.get(highest, bound), bound), schema.get(lowest, 0))
