"""Absorbed attention over rows of any width, read where they lie: for caches (decoding) and for the backward pass.

`_kernel` is faster over many queries, but wants rows padded to whole registers, which a cache of pages is not. Rows are
taken in parts that stay in the L2 cache while all heads go over them.
"""

import numpy as np

from godwit.ops._gathered import add_rows, dots
from godwit.ops._numba import inner, numba
from godwit.ops._places import PAD, places
from godwit.ops._softmax import softmax

# Rows of a part, a multiple of PAD: 300 KB in GLM-5.
PART = 128


@inner(parallel=True)
def attend(q, c, index, out, lse):  # noqa: ANN001 (compiled: types are inferred)
    """Fill `out` (Q, H, C) and `lse` (Q, H) from scaled queries (Q, H, W), rows (T, W) and positions (Q, K)."""
    for i in numba.prange(q.shape[0]):
        num_heads, width = q.shape[1], index.shape[1]
        place = np.zeros(width + PAD, np.int64)
        n = places(index[i], place)
        p = np.zeros((num_heads, width + PAD), np.float32)
        scores(q[i], c, place, n, p)
        for h in range(num_heads):
            lse[i, h] = softmax(p[h], n)
            p[h, n : n + PAD] = 0
        sums(p, c, place, n, out[i])


@inner
def scores(q, c, place, n, p):  # noqa: ANN001
    """p[h, j] = q[h] . c[place[j]], of as many columns as q has; may write PAD - 1 columns behind n."""
    for first in range(0, n, PART):
        for h in range(q.shape[0]):
            dots(q[h], c, place[first:], min(PART, n - first), np.float32(1), p[h, first:])


@inner
def sums(p, c, place, n, out):  # noqa: ANN001
    """out[h] = sum_j p[h, j] c[place[j]], of as many columns as out has; weights behind n are zero."""
    out[:] = 0
    for first in range(0, n, PART):
        for h in range(out.shape[0]):
            add_rows(p[h, first:], c, place[first:], min(PART, n - first), out[h])
