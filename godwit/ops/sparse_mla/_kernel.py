"""The compiled loop behind `compiled`: per query, scores of its rows, softmax, weighted sum of their latent part.

A query's rows are taken in parts that stay in the L2 cache between scores and sums, and of a part as many at a time as
stay in the L1 cache while all heads go over them. Later parts correct what is there by e^(old maximum - new maximum),
as FlashAttention (arXiv 2205.14135) does. Some queries take their first parts, then their second ones, ...: as
positions come in order, where many are selected those are rows of one region, which does fit the cache when all rows
together do not. The products are in `_products`.
"""

import numpy as np

from godwit.ops._numba import inner, njit, numba
from godwit.ops._places import places
from godwit.ops._share import blocks_left
from godwit.ops._softmax import exponentials, largest
from godwit.ops.sparse_mla._products import ROWS, add_rows, dots

# Rows of a part, and numbers of those that stay in the L1 cache, beside queries: 29 KB.
PART = 256
NEAR = 7168
# Queries that take parts in turn, and numbers that their inputs and outputs may have: half a MB, to fit beside rows.
QUERIES = 64
NUMBERS = 1 << 17


def queries_at_once(num_queries: int, num_heads: int, width: int, num_threads: int) -> int:
    """How many take parts in turn; few where there are few, so that each thread has some. Changes no bit."""
    return max(1, min(QUERIES, NUMBERS // (2 * num_heads * width), num_queries // (4 * num_threads)))


@njit(parallel=True)
def attend(threads, q, c, index, out, lse, block, group):  # noqa: ANN001 (compiled: types are inferred)
    """Fill `out` (Q, H, C) and `lse` (Q, H) from scaled queries (Q, H, W), rows (T, W) and positions (Q, K).

    `block` queries take their parts in turn, see `queries_at_once`; heads are whole groups, see `_products.group_of`.
    """
    num_queries, num_heads, width = q.shape[0], q.shape[1], index.shape[1]
    near = max(1, NEAR // (ROWS * c.shape[1])) * ROWS
    taken = np.zeros(1, np.int64)
    for _ in numba.prange(threads):
        place, count = np.zeros((block, width + ROWS), np.int64), np.zeros(block, np.int64)
        p = np.empty((num_heads, min(width, PART) + ROWS), np.float32)
        top, total = np.empty((block, num_heads), np.float32), np.empty((block, num_heads), np.float32)
        for b in blocks_left(taken, (num_queries + block - 1) // block):
            first, last = b * block, min((b + 1) * block, num_queries)
            top[:], total[:] = -np.inf, 0
            for i in range(first, last):
                count[i - first] = places(index[i], place[i - first])
                out[i] = 0
            for start in range(0, width, PART):
                for i in range(first, last):
                    number = min(PART, count[i - first] - start)
                    if number > 0:
                        attend_part(q, c, place, i, i - first, start, number, p, top, total, out, near, group)
            for i in range(first, last):
                finish(out, lse, top, total, i, i - first)


@inner
def finish(out, lse, top, total, i, r):  # noqa: ANN001
    """Divide the sums of query i, row r of `top` and `total`, by their weights."""
    for h in range(out.shape[1]):
        inverse = np.float32(1) / total[r, h]
        for d in range(out.shape[2]):
            out[i, h, d] *= inverse
        lse[i, h] = top[r, h] + np.log(total[r, h])


@inner
def attend_part(q, c, place, i, r, first, count, p, top, total, out, near, group):  # noqa: ANN001
    """Add `count` rows of query i, from entry `first` of row r of `place` on, to its sums; `near` rows at a time."""
    num_heads = q.shape[1]
    for s in range(0, count, near):
        n = min(near, count - s)
        for h in range(0, num_heads, len(group)):
            dots(q, i, h, c, place, r, first + s, n, p, s, group)
    for h in range(num_heads):
        weigh(p[h], count, top, total, out, i, r, h, first > 0)
    for s in range(0, count, near):
        for h in range(0, num_heads, len(group)):
            add_rows(p, s, c, place, r, first + s, min(near, count - s), out, i, h, group)


@inner
def weigh(p, count, top, total, out, i, r, h, again):  # noqa: ANN001
    """Turn the first scores into e^(score - maximum so far); correct head h's sums if the maximum has changed."""
    best = max(top[r, h], largest(p, count))
    if again:
        factor = np.exp(top[r, h] - best)
        total[r, h] *= factor
        for d in range(out.shape[2]):
            out[i, h, d] *= factor
    top[r, h] = best
    total[r, h] += exponentials(p, count, best)
    # Sums take rows in groups.
    p[count : count + ROWS] = 0
