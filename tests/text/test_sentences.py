"""Sentences and their places: the two variants apart, every place exact, nothing lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from godwit.base.errors import GodwitError
from godwit.text.sentences import SPLITTERS, Sentence, numbered, sentence_texts, split_sentences, splitter_id

ABBREVIATED = "Dr. Smith lives in the U.S. today. He said, i.e. wrote, nothing! Really? Yes."
PIECES = st.sampled_from(["A b", "Dr", ".", "!", "。", "；", "？", " ", "\n", "\n\n", "”", "\u3000", "<C3>", "é"])


def texts(text: str, splitter: str) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text, splitter=splitter)]


def test_trained_and_untrained_punkt_number_differently() -> None:
    assert texts(ABBREVIATED, "punkt")[:2] == ["Dr.", "Smith lives in the U.S."]
    assert texts(ABBREVIATED, "punkt-trained")[0] == "Dr. Smith lives in the U.S. today."
    assert splitter_id("punkt") != splitter_id("punkt-trained")
    assert splitter_id("punkt").startswith("punkt/nltk-")


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_full_width_marks_end_sentences_and_a_second_one_is_a_sentence(splitter: str) -> None:
    assert texts("你好。真的？！“对。”他说；好", splitter) == ["你好。", "真的？", "！", "“对。", "”他说；", "好"]


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_one_sentence_falls_back_to_blank_lines(splitter: str) -> None:
    assert texts("no full stop\n\nanother line\n\n\n\nlast", splitter) == ["no full stop", "another line", "last"]


@pytest.mark.parametrize("splitter", SPLITTERS)
@pytest.mark.parametrize("text", ["", "  \n\n \t"])
def test_blank_text_has_no_sentences(splitter: str, text: str) -> None:
    assert split_sentences(text, splitter=splitter) == []
    assert numbered(text, []) == ""


def test_white_space_goes_with_the_sentence_before_it_and_the_code_loses_what_stands_first() -> None:
    text = "\n  One is here.  Two is there.\n"
    sentences = split_sentences(text, splitter="punkt")
    assert sentence_texts(text, sentences) == ["One is here.  ", "Two is there.\n"]
    assert numbered(text, sentences) == "\n  <C0>One is here.  <C1>Two is there.\n"
    assert numbered(text, sentences, compat="code") == "<C0>One is here.  <C1>Two is there.\n"


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=20), st.sampled_from(SPLITTERS))
def test_places_are_those_a_search_in_order_finds(parts: list[str], splitter: str) -> None:
    text = "".join(parts)
    sentences = split_sentences(text, splitter=splitter)
    place = 0
    for sentence in sentences:
        piece = text[sentence.start : sentence.end]
        assert piece and piece == piece.strip()
        assert text.find(piece, place) == sentence.start  # how the released code recovers places
        assert text[place : sentence.start].strip() == ""
        place = sentence.end
    assert text[place:].strip() == ""
    head = text[: sentences[0].start] if sentences else text
    assert head + "".join(sentence_texts(text, sentences)) == text


def test_long_text_is_not_cut_short_by_the_librarys_clock() -> None:
    # nltk 3.10 gives the walk over a text five seconds in all; marks alone walk fast, so count them.
    assert len(split_sentences("好。" * 100_000, splitter="punkt")) == 100_000
    assert split_sentences("a" * 3_000_000, splitter="punkt-trained") == [Sentence(0, 3_000_000)]


def test_a_wrong_name_says_which_there_are() -> None:
    with pytest.raises(GodwitError, match="did you mean 'punkt'"):
        split_sentences("a", splitter="pinkt")  # type: ignore[arg-type]
