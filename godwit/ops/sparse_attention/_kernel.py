"""The compiled loops behind `compiled`, forward and backward: one query and one head at a time.

With p = exp(scale q.k - lse) and delta = dout . out:  dv += p dout;  ds = p (dout . v - delta) scale;  dq += ds k;
dk += ds q.
"""

import numpy as np

from godwit.ops._gathered import add_rows, dots
from godwit.ops._numba import njit, numba
from godwit.ops._places import PAD, places
from godwit.ops._share import blocks_left
from godwit.ops._softmax import exponentials, softmax

# Queries one thread works on, head by head; entries of a position worked on at a time.
ROWS = 64
PIECE = 256


@njit(parallel=True)
def forward(threads, q, k, v, index, scale, out, lse):  # noqa: ANN001 (compiled: types are inferred)
    """Fill `out` (T, H, E) and `lse` (T, H); keys and values come by head, (G, T, D) and (G, T, E)."""
    repeat = q.shape[1] // k.shape[0]
    num_blocks = (q.shape[0] + ROWS - 1) // ROWS
    # Head by head: the rows of one head stay in the cache, those of all would not.
    taken = np.zeros(1, np.int64)
    for _ in numba.prange(threads):
        place = np.zeros(index.shape[1] + PAD, np.int64)
        p = np.empty(place.shape[0], np.float32)
        for i in blocks_left(taken, k.shape[0] * num_blocks):
            g, block = i // num_blocks, i % num_blocks
            for t in range(block * ROWS, min((block + 1) * ROWS, q.shape[0])):
                n = places(index[t], place)
                for h in range(g * repeat, (g + 1) * repeat):
                    dots(q[t, h], k[g], place, n, scale, p)
                    lse[t, h] = softmax(p, n)
                    p[n : n + PAD] = 0
                    out[t, h] = 0
                    add_rows(p, v[g], place, n, out[t, h])


@njit(parallel=True)
def query_gradients(threads, start, q, dout, k, v, index, lse, delta, scale, weight, dweight, dq):  # noqa: ANN001
    """For one key-value head and the queries `start`, `start + 1`, ...: keep p and ds and add to `dq` (R, T, D).

    q and dout are (R, T, .), lse and delta (R, T) for the R query heads on it; k and v are (T, .), index is (Q, K), and
    p and ds go to `weight` and `dweight` (R, Q, K).
    """
    taken = np.zeros(1, np.int64)
    for _ in numba.prange(threads):
        place = np.zeros(index.shape[1] + PAD, np.int64)
        p, ds = np.empty(place.shape[0], np.float32), np.empty(place.shape[0], np.float32)
        for i in blocks_left(taken, index.shape[0]):
            n, t = places(index[i], place), start + i
            for h in range(q.shape[0]):
                dots(q[h, t], k, place, n, scale, p)
                exponentials(p, n, lse[h, t])
                dots(dout[h, t], v, place, n, np.float32(1), ds)
                for j in range(n):
                    ds[j] = p[j] * (ds[j] - delta[h, t]) * scale
                    weight[h, i, j] = p[j]
                    dweight[h, i, j] = ds[j]
                ds[n : n + PAD] = 0
                add_rows(ds, k, place, n, dq[h, t])


@njit(parallel=True)
def key_gradients(threads, start, q, dout, weight, dweight, first, query, column, border, dk, dv):  # noqa: ANN001
    """Add to `dk` (T, D) and `dv` (T, E) what those queries left: see `godwit.ops._inverse.ByPosition`."""
    taken = np.zeros(1, np.int64)
    for _ in numba.prange(threads):
        place = np.zeros(PIECE + PAD, np.int64)
        p, ds = np.empty(PIECE + PAD, np.float32), np.empty(PIECE + PAD, np.float32)
        for run in blocks_left(taken, border.shape[0] - 1):
            for s in range(border[run], border[run + 1]):
                for begin in range(first[s], first[s + 1], PIECE):
                    n = min(PIECE, first[s + 1] - begin)
                    for j in range(n):
                        place[j] = start + query[begin + j]
                    place[n : n + PAD] = place[0]
                    for h in range(q.shape[0]):
                        for j in range(n):
                            p[j] = weight[h, query[begin + j], column[begin + j]]
                            ds[j] = dweight[h, query[begin + j], column[begin + j]]
                        p[n : n + PAD] = 0
                        ds[n : n + PAD] = 0
                        add_rows(ds, q[h], place, n, dk[s])
                        add_rows(p, dout[h], place, n, dv[s])
