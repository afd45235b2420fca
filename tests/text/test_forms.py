"""Forms: what their pieces match, and that Python and xgrammar read them alike."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from godwit.text.forms import REHEARSAL, Room, literal, one_of, some_text, whole_number
from godwit.text.replies import elements
from tests.text.forms import allowed, holds


@given(st.integers(0, 3000), st.integers(0, 3000), st.data())
def test_whole_numbers_are_those_from_low_to_high(low: int, more: int, data: st.DataObject) -> None:
    pattern = re.compile(whole_number(low, low + more))
    near = [low - 1, low, low + more, low + more + 1, data.draw(st.integers(0, 10_000))]
    for number in near:
        assert bool(pattern.fullmatch(str(number))) == (low <= number <= low + more)
    assert not pattern.fullmatch(f"0{low}")


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_literals_are_read_as_they_are(text: str) -> None:
    for pattern in (literal(text), one_of([text, "other"])):
        assert re.fullmatch(pattern, text) and allowed(pattern, text)
        assert not allowed(pattern, f"{text}x")


def test_free_text_is_not_blank_and_has_its_bounds() -> None:
    holds(some_text, lambda text: text or None)
    holds(lambda room: room.text(without="<>-]"), lambda text: None if set(text) & set("<>-]") else text)
    holds(lambda room: f"<a>{room.inside()}</a>", lambda text: (elements(text, "a") == [text[3:-4]]) or None)
    assert re.fullmatch(Room().inside(), "if a < b or b <= 3:") and not re.fullmatch(Room().inside(), "a <b>")
    holds(lambda room: room.line(), lambda text: None if "\n" in text else text)
    holds(lambda room: rf'\{{"a": {room.string()}\}}', lambda text: json.loads(text)["a"].strip() or None)
    assert re.fullmatch(REHEARSAL.text(), "x" * 40) and not re.fullmatch(REHEARSAL.text(), "x" * 41)
    assert re.fullmatch(Room().text(), "x" * 10_000)


@pytest.mark.parametrize(
    ("room", "least", "most", "counts"),
    [
        (Room(), 1, None, {1, 2, 3, 4, 5}),
        (Room(), 0, 2, {0, 1, 2}),
        (Room(), 0, 0, {0}),
        (Room(items=2), 1, None, {1, 2}),
        (Room(items=2), 0, 5, {0, 1, 2}),
        (Room(items=2), 4, 12, {4}),  # what a parser needs comes before the room
        (Room(items=9), 2, 3, {2, 3}),
        (Room(least=1), 0, 2, {1, 2}),
        (Room(least=1), 0, 0, {0}),
    ],
)
def test_several_are_as_many_as_the_form_needs_and_the_room_has(
    room: Room, least: int, most: int | None, counts: set[int]
) -> None:
    pattern = room.several("ab", least=least, most=most, between=", ")
    for count in range(6):
        text = ", ".join(["ab"] * count)
        assert bool(re.fullmatch(pattern, text)) == (count in counts)
        if pattern:
            assert allowed(pattern, text) == (count in counts)


def test_schemas_are_narrowed_and_keep_what_they_ask_for() -> None:
    schema = {
        "type": "object",
        "properties": {
            "type": {"type": "string", "minLength": 1},
            "long": {"type": "string", "minLength": 100},
            "kind": {"enum": ["a", "b"], "type": "string"},
            "words": {"type": "integer", "minimum": 1, "maximum": 20_000},
            "many": {"type": "integer", "minimum": 1000},
            "list": {"type": "array", "minItems": 3, "items": {"$ref": "#/$defs/One"}},
        },
        "$defs": {"One": {"anyOf": [{"type": "array", "maxItems": 1}, {"type": "null"}]}},
    }
    assert Room().schema(schema) is schema
    found = REHEARSAL.schema(schema)
    assert found["properties"] == {
        "type": {"type": "string", "minLength": 1, "maxLength": 40},
        "long": {"type": "string", "minLength": 100, "maxLength": 100},
        "kind": {"enum": ["a", "b"], "type": "string"},
        "words": {"type": "integer", "minimum": 1, "maximum": 400},
        "many": {"type": "integer", "minimum": 1000, "maximum": 1000},
        "list": {"type": "array", "minItems": 3, "maxItems": 3, "items": {"$ref": "#/$defs/One"}},
    }
    assert found["$defs"]["One"]["anyOf"] == [{"type": "array", "maxItems": 1}, {"type": "null"}]
    assert schema["properties"]["words"]["maximum"] == 20_000
