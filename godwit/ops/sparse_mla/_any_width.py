"""Absorbed attention over rows of any width, read where they lie: for caches (decoding) and for the backward pass.

`_kernel` is faster over many queries, but wants rows padded to whole registers, which a cache of pages is not. Four
heads at a time against two rows (scores) or four rows (sums): a row's numbers, once loaded, serve four heads, and a
head's serve several rows. Two heads that are left over go against four rows. A query's selection fits the L2 cache.
"""

import numpy as np

from godwit.ops._numba import numba
from godwit.ops._places import places
from godwit.ops._softmax import softmax

FAST = {"contract", "reassoc", "nsz"}


@numba.njit(parallel=True, cache=True)
def attend(q, c, index, out, lse):  # noqa: ANN001 (compiled: types are inferred)
    """Fill `out` (Q, H, C) and `lse` (Q, H) from scaled queries (Q, H, W), rows (T, W), positions (Q, K); H even."""
    for i in numba.prange(q.shape[0]):
        width = index.shape[1]
        place = np.zeros(width + 4, np.int64)
        n = places(index[i], place)
        p, power = np.zeros((4, width + 4), np.float32), np.empty(width + 4, np.int32)
        for h in range(0, q.shape[1], 4):
            if h + 4 <= q.shape[1]:
                scores(q[i, h : h + 4], c, place, n, p)
            else:
                scores_of_two(q[i, h:], c, place, n, p)
            for g in range(min(4, q.shape[1] - h)):
                lse[i, h + g] = softmax(p[g], n, power)
                p[g, n : n + 4] = 0
            sums(p, c, place, n, out[i, h : h + 4])


@numba.njit(fastmath=FAST, cache=True)
def scores(q, c, place, n, p):  # noqa: ANN001
    """p[g, j] = q[g] . c[place[j]] for four heads; may write one column behind n."""
    for j in range(0, n, 2):
        x, y = c[place[j]], c[place[j + 1]]
        a0, a1, a2, a3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        b0, b1, b2, b3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for d in range(q.shape[1]):
            a0 += q[0, d] * x[d]
            a1 += q[1, d] * x[d]
            a2 += q[2, d] * x[d]
            a3 += q[3, d] * x[d]
            b0 += q[0, d] * y[d]
            b1 += q[1, d] * y[d]
            b2 += q[2, d] * y[d]
            b3 += q[3, d] * y[d]
        p[0, j], p[1, j], p[2, j], p[3, j] = a0, a1, a2, a3
        p[0, j + 1], p[1, j + 1], p[2, j + 1], p[3, j + 1] = b0, b1, b2, b3


@numba.njit(fastmath=FAST, cache=True)
def scores_of_two(q, c, place, n, p):  # noqa: ANN001
    """The same for two heads; may write three columns behind n."""
    for j in range(0, n, 4):
        w, x, y, z = c[place[j]], c[place[j + 1]], c[place[j + 2]], c[place[j + 3]]
        a0, a1, a2, a3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        b0, b1, b2, b3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for d in range(q.shape[1]):
            a0 += q[0, d] * w[d]
            a1 += q[0, d] * x[d]
            a2 += q[0, d] * y[d]
            a3 += q[0, d] * z[d]
            b0 += q[1, d] * w[d]
            b1 += q[1, d] * x[d]
            b2 += q[1, d] * y[d]
            b3 += q[1, d] * z[d]
        p[0, j], p[0, j + 1], p[0, j + 2], p[0, j + 3] = a0, a1, a2, a3
        p[1, j], p[1, j + 1], p[1, j + 2], p[1, j + 3] = b0, b1, b2, b3


@numba.njit(fastmath=FAST, cache=True)
def sums(p, c, place, n, out):  # noqa: ANN001
    """out[g] = sum_j p[g, j] c[place[j], :C] for two or four heads; weights behind n are zero."""
    out[:] = 0
    for j in range(0, n, 4):
        x0, x1, x2, x3 = c[place[j]], c[place[j + 1]], c[place[j + 2]], c[place[j + 3]]
        for g in range(0, out.shape[0], 2):
            a0, a1, a2, a3 = p[g, j], p[g, j + 1], p[g, j + 2], p[g, j + 3]
            b0, b1, b2, b3 = p[g + 1, j], p[g + 1, j + 1], p[g + 1, j + 2], p[g + 1, j + 3]
            for d in range(out.shape[1]):
                out[g, d] += a0 * x0[d] + a1 * x1[d] + a2 * x2[d] + a3 * x3[d]
                out[g + 1, d] += b0 * x0[d] + b1 * x1[d] + b2 * x2[d] + b3 * x3[d]
