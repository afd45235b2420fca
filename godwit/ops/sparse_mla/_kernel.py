"""The compiled loop behind `compiled`: per query, scores of its rows, softmax, weighted sum of their latent part.

A query's rows are taken in parts that stay in the L2 cache while all heads go over them, first for the scores and at
once for the sums. Later parts correct what is there by e^(old maximum - new maximum), as FlashAttention
(arXiv 2205.14135) does. The products are in `_products`.
"""

import numpy as np

from godwit.ops._numba import numba
from godwit.ops._softmax import exponentials, largest
from godwit.ops.sparse_mla._products import AHEAD, HEADS, ROWS, add_rows, dots

# Numbers of the rows that are taken at a time, a quarter of a MB: twice as much is all of a small L2 cache.
PART = 1 << 16


@numba.njit(parallel=True, cache=True)
def attend(q, c, index, out, lse):  # noqa: ANN001 (compiled: types are inferred)
    """Fill `out` (Q, H, C) and `lse` (Q, H) from scaled queries (Q, H, W), rows (T, W) and positions (Q, K)."""
    num_heads, width = q.shape[1], index.shape[1]
    part = max(2 * ROWS, PART // q.shape[2] // ROWS * ROWS)
    for i in numba.prange(q.shape[0]):
        place = np.zeros(width + AHEAD + ROWS, np.int64)
        n = positions(index, i, width, place, 0)
        # `dots` takes rows by twos, and what it makes of one behind the last is not read; it asks for the next query's.
        positions(index, min(i + 1, q.shape[0] - 1), min(width, AHEAD), place, n)
        p = np.empty((HEADS, part + ROWS), np.float32)
        top, total = np.full(num_heads, -np.inf, np.float32), np.zeros(num_heads, np.float32)
        out[i] = 0
        for first in range(0, n, part):
            count = min(part, n - first)
            for h in range(0, num_heads, HEADS):
                dots(q, i, h, c, place, first, count, p, q.shape[2] if h == 0 else 0)
                for g in range(HEADS):
                    weigh(p, g, count, top, total, out, i, h + g, first > 0)
                add_rows(p, c, place, first, count, out, i, h)
        for h in range(num_heads):
            inverse = np.float32(1) / total[h]
            for d in range(out.shape[2]):
                out[i, h, d] *= inverse
            lse[i, h] = top[h] + np.log(total[h])


@numba.njit(cache=True)
def positions(index, i, width, place, n):  # noqa: ANN001
    """Append row i's first positions that are not -1 to the n in `place`; returns the new number."""
    for j in range(width):
        if index[i, j] >= 0:
            place[n] = index[i, j]
            n += 1
    return n


@numba.njit(cache=True)
def weigh(p, g, count, top, total, out, i, h, again):  # noqa: ANN001
    """Turn scores p[g, :count] into e^(score - maximum so far); correct head h's sums if the maximum has changed."""
    best = max(top[h], largest(p[g], count))
    if again:
        factor = np.exp(top[h] - best)
        total[h] *= factor
        for d in range(out.shape[2]):
            out[i, h, d] *= factor
    top[h] = best
    total[h] += exponentials(p[g], count, best)
