"""Sentences of a text with their places in it: LongCite's splitter, in both of its variants.

    1. Punkt (Kiss and Strunk 2006) cuts the text;
    2. each piece is cut behind every full-width mark of 。；！？, which stays with the piece on its left;
    3. if that gives one sentence only, the text is cut at blank lines instead;
    4. white space around each is taken off and empty ones are dropped.

Source: LongCite's released code (arXiv 2409.02897, section 2 and `utils/`). Its pipeline and benchmark use an untrained
Punkt ("punkt"), which cuts behind "Dr." and "U.S."; its inference code trains Punkt on the very text first
("punkt-trained"), and so were the numbers of its demonstrations made. The two number sentences differently: whoever
stores numbers stores `splitter_id` beside them.

Marks that follow each other ("？！", "……", a closing quote behind a full stop) become sentences of their own, and
English ";" and ":" end none, as there. Places are exact: `text[sentence.start:sentence.end]` is the sentence.
"""

import itertools
import re
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple, get_args

from godwit.base.errors import GodwitError, MissingPartError, did_you_mean

Splitter = Literal["punkt", "punkt-trained"]
SPLITTERS: tuple[Splitter, ...] = get_args(Splitter)
RULES_VERSION = 1
"""Counts changes of steps 2 to 4 that move a boundary."""
_MARKS = re.compile("[。；！？]")


class Sentence(NamedTuple):
    """Characters [start, end) of a text."""

    start: int
    end: int


def split_sentences(text: str, *, splitter: Splitter = "punkt-trained") -> list[Sentence]:
    """The sentences of `text` in order; none if it is blank.

    Raises:
        GodwitError: an unknown splitter.
        MissingPartError: nltk is not installed.
    """
    if splitter not in SPLITTERS:
        raise GodwitError(f"no sentence splitter {splitter!r}: {did_you_mean(splitter, SPLITTERS)}")
    pieces = [cut for start, end in _punkt(text, splitter) for cut in _cut(text, start, end)]
    if len(pieces) == 1:
        pieces = _paragraphs(text)
    stripped = (_strip(text, start, end) for start, end in pieces)
    return [sentence for sentence in stripped if sentence.start < sentence.end]


def splitter_id(splitter: Splitter) -> str:
    """What numbered sentences must be stored with: splitter, library version, version of the rules here."""
    try:
        return f"{splitter}/nltk-{version('nltk')}/{RULES_VERSION}"
    except PackageNotFoundError as error:
        raise _missing() from error


def sentence_texts(text: str, sentences: Sequence[Sentence]) -> list[str]:
    """The text of each sentence with the white space behind it: up to the start of the next, the last to the end.

    What stands before the first sentence is in none of them.
    """
    ends = [sentence.start for sentence in sentences[1:]] + [len(text)]
    return [text[sentence.start : end] for sentence, end in zip(sentences, ends)]


def numbered(text: str, sentences: Sequence[Sentence], *, compat: Literal["paper", "code"] = "paper") -> str:
    """`text` with `<C0>`, `<C1>`, ... in front of its sentences, and all of its white space.

    Args:
        compat: "code" loses the white space before the first sentence, as LongCite's code does; the paper's format
            says nothing of it, and here nothing is lost.
    """
    head = text[: sentences[0].start] if sentences and compat == "paper" else ""
    return head + "".join(f"<C{number}>{piece}" for number, piece in enumerate(sentence_texts(text, sentences)))


def _punkt(text: str, splitter: Splitter) -> list[tuple[int, int]]:
    make, plain = _punkt_classes()
    tokenizer = (
        make(text, lang_vars=plain()) if splitter == "punkt-trained" and text.strip() else make(lang_vars=plain())
    )
    return list(tokenizer.span_tokenize(text))


@cache
def _punkt_classes() -> tuple[Any, Any]:
    """Punkt, and its expressions without the five seconds that nltk 3.10 gives each.

    That limit is on the whole walk over a text, which two megabytes exceed; the expressions themselves are linear.
    """
    try:
        from nltk.tokenize.punkt import PunktLanguageVars, PunktSentenceTokenizer
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "nltk":
            raise
        raise _missing() from error
    flags = re.UNICODE | re.VERBOSE

    class Unhurried(PunktLanguageVars):
        def _word_tokenizer_re(self) -> re.Pattern[str]:
            return re.compile(super()._word_tokenizer_re().pattern, flags)

        def period_context_re(self) -> re.Pattern[str]:
            return re.compile(super().period_context_re().pattern, flags)

    return PunktSentenceTokenizer, Unhurried


def _missing() -> MissingPartError:
    return MissingPartError("sentence splitting needs nltk; type: pip install 'godwit[synth]'")


def _cut(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Cut behind each full-width mark."""
    ends = [match.end() for match in _MARKS.finditer(text, start, end)]
    edges = [start, *ends, *([end] if not ends or ends[-1] < end else [])]
    return list(itertools.pairwise(edges))


def _paragraphs(text: str) -> list[tuple[int, int]]:
    found, start = [], 0
    while (place := text.find("\n\n", start)) >= 0:
        found.append((start, place))
        start = place + 2
    return [*found, (start, len(text))]


def _strip(text: str, start: int, end: int) -> Sentence:
    piece = text[start:end]
    return Sentence(start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip()))
