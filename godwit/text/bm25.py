"""Lexical retrieval over pieces of one text: BM25 by bm25s, Chinese cut into words by jieba.

Needs no server and no model, so it stands in for the embedding retrievers of the papers; figures say which was used.
"""

import re
from collections.abc import Sequence

from godwit.base.errors import MissingPartError

_LATIN_WORDS = re.compile(r"[^\W_]+")
_CHINESE = re.compile("[\u4e00-\u9fff]")


def best_pieces(pieces: Sequence[str], query: str, count: int) -> list[int]:
    """Places of the `count` pieces that match `query` best, in the order of the text; equal ones go by their place."""
    if not pieces or count < 1:
        return []
    scores = _scores(pieces, query)
    ranked = sorted(range(len(pieces)), key=lambda place: (-scores[place], place))
    return sorted(ranked[:count])


def words(text: str) -> list[str]:
    """Lower-case words; runs of Chinese by jieba's cut."""
    if not _CHINESE.search(text):
        return _LATIN_WORDS.findall(text.lower())
    jieba = _library("jieba")
    return [word for word in jieba.cut(text.lower()) if _LATIN_WORDS.search(word)]


def _scores(pieces: Sequence[str], query: str) -> list[float]:
    bm25s = _library("bm25s")
    asked = words(query)
    if not asked or not any(words(piece) for piece in pieces):
        return [0.0] * len(pieces)
    index = bm25s.BM25()
    index.index([words(piece) or ["\0"] for piece in pieces], show_progress=False)
    return [float(score) for score in index.get_scores(asked)]


def _library(name: str):  # noqa: ANN202
    import importlib
    import logging

    try:
        library = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingPartError(f"retrieval needs {name}; type: pip install 'godwit[synth]'") from error
    logging.getLogger("jieba").setLevel(logging.ERROR)  # it announces its dictionary on stderr
    return library
