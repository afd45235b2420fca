"""What is read from replies: by definition whatever they hold, in linear time, never evaluated."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from godwit.text.replies import after_thoughts, elements, json_object, without_elements


def test_elements_and_what_is_left() -> None:
    text = "a<s>b</s>c<s>d<s>e</s>f<s>g"
    assert elements(text, "s") == ["b", "d<s>e"]
    assert without_elements(text, "s") == "acf<s>g"
    assert elements("</s><s></s>", "s") == [""]


@given(st.lists(st.sampled_from(["<s>", "</s>", "x", "<", " "]), max_size=12))
def test_nothing_is_lost(parts: list[str]) -> None:
    text = "".join(parts)
    inner = elements(text, "s")
    assert len(without_elements(text, "s")) + sum(map(len, inner)) + len("<s></s>") * len(inner) == len(text)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Here:\n```json\n{"a": 1}\n```\nbye', {"a": 1}),
        ('<think>{"a": 0}</think>{"a": 1}', {"a": 1}),
        ('set {x} then {"a": "line\nbreak"}', {"a": "line\nbreak"}),
        ("[1, 2]", None),
        ("", None),
        ("{'a': 1}", None),
        ('{"a": __import__("os").system("touch /tmp/harm")}', None),
        ('{"a": ' + "9" * 5000 + "}", None),
        ('{"a":' * 100_000, None),
        ("{" * 1_000_000, None),
        ('{"' + "x" * 1_000_000, None),
        ("```" + " " * 1_000_000, None),
    ],
)
def test_json_object(reply: str, expected: dict[str, object] | None) -> None:
    assert json_object(reply) == expected


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=4))
def test_any_object_comes_back(value: dict[str, object]) -> None:
    assert json_object(f"Sure.\n```json\n{json.dumps(value)}\n```") == value


def test_thoughts_end_at_the_last_mark() -> None:
    assert after_thoughts("<think>a</think>b</think>c") == "c"
    assert after_thoughts("c") == "c"
