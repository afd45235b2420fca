"""Which passages are about a query by their words: BM25 by bm25s, Chinese cut into words by jieba.

Lucene's form with k1 1.5 and b 0.75, on this machine and for nothing; it stands in for the embedding retrievers of the
papers, and figures made with it say so. Ties go to the earlier passage.
"""

import logging
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from godwit.base.errors import MissingPartError

_CHINESE = re.compile(r"[\u3400-\u9fff]")
_WORD = re.compile(r"\w+")


def by_words(queries: Sequence[str], passages: Sequence[str], *, count: int) -> list[list[int]]:
    """For each query the places of its `count` best passages (all, if there are fewer), the best first."""
    try:
        import bm25s
    except ModuleNotFoundError as error:
        raise MissingPartError("retrieval needs bm25s; type pip install 'godwit[synth]'") from error
    import numpy

    corpus = [words(passage) for passage in passages]
    if not any(corpus):
        return [list(range(min(count, len(passages)))) for _ in queries]
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index(corpus, show_progress=False)
    ranks = []
    for query in queries:
        known = [word for word in words(query) if word in index.vocab_dict]
        scores = index.get_scores(known) if known else numpy.zeros(len(passages))
        ranks.append(list(map(int, numpy.argsort(-scores.round(5), kind="stable")[:count])))
    return ranks


def words(text: str) -> list[str]:
    """Words to compare by: lower case, Chinese cut by jieba."""
    if not _CHINESE.search(text):
        return _WORD.findall(text.lower())
    return [word for piece in _jieba().cut(text.lower()) for word in _WORD.findall(piece)]


@cache
def _jieba() -> Any:
    try:
        import jieba
    except ModuleNotFoundError as error:
        raise MissingPartError("Chinese words need jieba; type pip install 'godwit[synth]'") from error
    jieba.setLogLevel(logging.WARNING)  # it tells stderr about its dictionary otherwise
    return jieba.Tokenizer()
