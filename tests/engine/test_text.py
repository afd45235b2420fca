"""Text while it comes: joined it is the whole decode, no half characters, stop strings wherever tokens are cut."""

from hypothesis import given, settings
from hypothesis import strategies as st

from godwit.engine.text import OutputText
from tests.engine.tiny import VOCAB, tokenizer


def text_of(stop: tuple[str, ...] = (), *, include: bool = False, skip: bool = True) -> OutputText:
    return OutputText(tokenizer=tokenizer(), stop=stop, include_stop=include, skip_special=skip)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, VOCAB - 1), max_size=40), st.booleans())
def test_pieces_are_the_decode(ids: list[int], skip: bool) -> None:
    text = text_of(skip=skip)
    pieces = [text.add(token)[0] for token in ids]
    pieces.append(text.finish()[0])
    assert "".join(pieces) == tokenizer().decode(ids, skip_special=skip)


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=30))
def test_whole_characters_only(given_text: str) -> None:
    ids = tokenizer().encode_bytes(given_text.encode())
    text = text_of()
    pieces = [text.add(token)[0] for token in ids]
    assert "".join(pieces) == given_text and text.finish() == ("", None)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from("ab\n中"), max_size=25).map("".join),
    st.lists(st.text("ab\n中", min_size=1, max_size=4), min_size=1, max_size=3).map(tuple),
    st.booleans(),
)
def test_stop_strings(given_text: str, stop: tuple[str, ...], include: bool) -> None:
    """Bytes as tokens: every border there can be. The first stop to be complete ends the text where it begins."""
    text, told, found = text_of(stop, include=include), "", None
    for token in [token for char in given_text.encode() for token in tokenizer().encode_bytes(bytes([char]))]:
        piece, found = text.add(token)
        told += piece
        # Nothing told may have to be taken back.
        assert found is not None or not any(one in told for one in stop)
        if found:
            break
    else:
        piece, found = text.finish()
        told += piece
    ends = [(given_text.find(one) + len(one), given_text.find(one), one) for one in stop if one in given_text]
    if not ends:
        assert (told, found) == (given_text, None)
        return
    end = min(ends)[0]
    _, start, expected = min((one for one in ends if one[0] == end), key=lambda one: one[1])
    assert (told, found) == (given_text[: end if include else start], expected)


def test_stops_do_not_count_before_min_tokens() -> None:
    text = text_of(("b",))
    ids = [tokenizer().encode_bytes(char.encode())[0] for char in "abab"]
    assert [text.add(token, may_stop=place > 2) for place, token in enumerate(ids)] == [
        ("a", None), ("b", None), ("a", None), ("", "b"),
    ]  # fmt: skip
