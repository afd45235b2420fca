"""Which passages are about a query: BM25 by bm25s (words of jieba for Chinese), or an embedding endpoint.

With `--embed-model` an embedding endpoint ranks by cosine; its vectors are in the journal like any answer. Else BM25
(Lucene's form, k1 1.5, b 0.75) does, on this machine and for nothing. Ties go to the earlier passage.
"""

import logging
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from godwit.base.errors import MissingPartError
from godwit.synth.ask import Ask
from godwit.synth.embedding import ROLE as EMBEDDER

_CHINESE = re.compile(r"[\u3400-\u9fff]")
_WORD = re.compile(r"\w+")


async def rank(
    ask: Ask[Any], queries: Sequence[str], passages: Sequence[str], *, count: int, stage: str = "retrieve"
) -> list[list[int]]:
    """For each query the places of its `count` best passages (all, if there are fewer), the best first."""
    if not passages or not queries:
        return [[] for _ in queries]
    if EMBEDDER not in ask.exchange.endpoints:
        return by_words(queries, passages, count=count)
    import numpy

    found = await ask.exchange.embeddings(stage, [*passages, *queries])
    vectors = numpy.asarray(found, dtype=numpy.float64)
    vectors /= numpy.maximum(numpy.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    scores = vectors[len(passages) :] @ vectors[: len(passages)].T
    # Rounded, so that the order does not hang on how a machine adds up.
    return [list(map(int, numpy.argsort(-row.round(6), kind="stable")[:count])) for row in scores]


def by_words(queries: Sequence[str], passages: Sequence[str], *, count: int) -> list[list[int]]:
    """`rank` by BM25."""
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
