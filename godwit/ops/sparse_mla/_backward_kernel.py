"""The compiled loops behind the gradients of `compiled`, four heads at a time as in `_kernel`.

With p = exp(scale q.c - lse) and delta = dout . out - dlse:  ds = p (dout . c - delta);  dq += scale ds c;
dc += scale ds q + p dout.

A row of c belongs to every query that chose it, so its gradient is cut by columns instead: a thread owns `COLUMNS` of
all rows and goes over the queries in order. One row's share is then one line of the cache, all heads add to it while
it is there, and the bits do not depend on the number of threads.
"""

import numpy as np

from godwit.ops._numba import inner, njit, numba
from godwit.ops._places import PAD, places
from godwit.ops._share import blocks_left
from godwit.ops._softmax import exponentials
from godwit.ops.sparse_mla._any_width import scores, sums

FAST = {"contract", "reassoc", "nsz"}
COLUMNS = 16


@njit(parallel=True)
def query_gradients(threads, q, c, index, dout, lse, delta, weight, dweight, dq):  # noqa: ANN001 (compiled: types are inferred)
    """Fill `weight` and `dweight` (Q, H, K + PAD) with p and ds, `dq` (Q, H, W) but for the scale, which is in q."""
    taken = np.zeros(1, np.int64)
    for _ in numba.prange(threads):
        place = np.zeros(index.shape[1] + PAD, np.int64)
        for i in blocks_left(taken, q.shape[0]):
            n = places(index[i], place)
            p, ds = weight[i], dweight[i]
            scores(q[i], c, place, n, p)
            scores(dout[i], c, place, n, ds)
            for h in range(q.shape[1]):
                exponentials(p[h], n, lse[i, h])
                for j in range(n):
                    ds[h, j] = p[h, j] * (ds[h, j] - delta[i, h])
                ds[h, n : n + PAD] = 0
            sums(ds, c, place, n, dq[i])


@njit(parallel=True)
def row_gradients(q, dout, index, weight, dweight, dc):  # noqa: ANN001
    """Add to `dc` (W / COLUMNS, T, COLUMNS) what queries (Q, H, W) and output gradients (Q, H, W) bring."""
    for block in numba.prange(dc.shape[0]):
        place = np.zeros(index.shape[1] + PAD, np.int64)
        own_q, own_dout = np.empty((4, COLUMNS), np.float32), np.empty((4, COLUMNS), np.float32)
        for i in range(q.shape[0]):
            n = places(index[i], place)
            for h in range(0, q.shape[1], 4):
                own_q[:] = q[i, h : h + 4, block * COLUMNS : (block + 1) * COLUMNS]
                own_dout[:] = dout[i, h : h + 4, block * COLUMNS : (block + 1) * COLUMNS]
                add_outer(dweight[i, h : h + 4], own_q, weight[i, h : h + 4], own_dout, place, n, dc[block])


@inner(fastmath=FAST)
def add_outer(a, x, b, y, place, n, rows):  # noqa: ANN001
    """rows[place[j]] += sum_g a[g, j] x[g] + b[g, j] y[g] for four heads."""
    x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
    y0, y1, y2, y3 = y[0], y[1], y[2], y[3]
    for j in range(n):
        row = rows[place[j]]
        a0, a1, a2, a3 = a[0, j], a[1, j], a[2, j], a[3, j]
        b0, b1, b2, b3 = b[0, j], b[1, j], b[2, j], b[3, j]
        for d in range(COLUMNS):
            row[d] += (a0 * x0[d] + a1 * x1[d] + a2 * x2[d] + a3 * x3[d]) + (
                b0 * y0[d] + b1 * y1[d] + b2 * y2[d] + b3 * y3[d]
            )
