"""Which passages are about a query: BM25 by bm25s (words of jieba for Chinese), or an embedding endpoint.

With `--embed-model` an embedding endpoint ranks by cosine; its vectors are in the journal like any answer. Else BM25
(Lucene's form, k1 1.5, b 0.75) does, on this machine and for nothing. Ties go to the earlier passage.
"""

from collections.abc import Sequence
from typing import Any

from godwit.synth.ask import Ask
from godwit.synth.embedding import ROLE as EMBEDDER
from godwit.text.bm25 import by_words


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
