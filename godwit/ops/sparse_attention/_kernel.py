"""The compiled loops behind `compiled`, forward and backward: one query and one head at a time, four positions at once.

With p = exp(scale q.k - lse) and delta = dout . out:  dv += p dout;  ds = p (dout . v - delta) scale;  dq += ds k;
dk += ds q.
"""

import numpy as np

from godwit.ops._numba import numba
from godwit.ops._places import places
from godwit.ops._softmax import exponentials, softmax

FAST = {"contract", "reassoc", "nsz"}
# Queries one thread works on, head by head; entries of a position worked on at a time.
ROWS = 64
PIECE = 256


@numba.njit(parallel=True, cache=True)
def forward(q, k, v, index, scale, out, lse):  # noqa: ANN001 (compiled: types are inferred)
    """Fill `out` (T, H, E) and `lse` (T, H); keys and values come by head, (G, T, D) and (G, T, E)."""
    repeat = q.shape[1] // k.shape[0]
    num_blocks = (q.shape[0] + ROWS - 1) // ROWS
    # Head by head: the rows of one head stay in the cache, those of all would not.
    for i in numba.prange(k.shape[0] * num_blocks):
        g, block = i // num_blocks, i % num_blocks
        place = np.zeros(index.shape[1] + 4, np.int64)
        p, power = np.empty(place.shape[0], np.float32), np.empty(place.shape[0], np.int32)
        for t in range(block * ROWS, min((block + 1) * ROWS, q.shape[0])):
            n = places(index[t], place)
            for h in range(g * repeat, (g + 1) * repeat):
                dots(q[t, h], k[g], place, n, scale, p)
                lse[t, h] = softmax(p, n, power)
                p[n : n + 4] = 0
                out[t, h] = 0
                add_rows(p, v[g], place, n, out[t, h])


@numba.njit(parallel=True, cache=True)
def query_gradients(start, q, dout, k, v, index, lse, delta, scale, weight, dweight, dq):  # noqa: ANN001
    """For one key-value head and the queries `start`, `start + 1`, ...: keep p and ds and add to `dq` (R, T, D).

    q and dout are (R, T, .), lse and delta (R, T) for the R query heads on it; k and v are (T, .), index is (Q, K), and
    p and ds go to `weight` and `dweight` (R, Q, K).
    """
    num_queries = index.shape[0]
    num_blocks = (num_queries + ROWS - 1) // ROWS
    for block in numba.prange(num_blocks):
        place, power = np.zeros(index.shape[1] + 4, np.int64), np.empty(index.shape[1] + 4, np.int32)
        p, ds = np.empty(place.shape[0], np.float32), np.empty(place.shape[0], np.float32)
        for i in range(block * ROWS, min((block + 1) * ROWS, num_queries)):
            n, t = places(index[i], place), start + i
            for h in range(q.shape[0]):
                dots(q[h, t], k, place, n, scale, p)
                for j in range(n):
                    p[j] = min(p[j] - lse[h, t], np.float32(0))
                exponentials(p, n, power)
                dots(dout[h, t], v, place, n, np.float32(1), ds)
                for j in range(n):
                    ds[j] = p[j] * (ds[j] - delta[h, t]) * scale
                    weight[h, i, j] = p[j]
                    dweight[h, i, j] = ds[j]
                ds[n : n + 4] = 0
                add_rows(ds, k, place, n, dq[h, t])


@numba.njit(parallel=True, cache=True)
def key_gradients(start, q, dout, weight, dweight, first, query, column, border, dk, dv):  # noqa: ANN001
    """Add to `dk` (T, D) and `dv` (T, E) what those queries left: see `godwit.ops._inverse.ByPosition`."""
    for run in numba.prange(border.shape[0] - 1):
        place = np.zeros(PIECE + 4, np.int64)
        p, ds = np.empty(PIECE + 4, np.float32), np.empty(PIECE + 4, np.float32)
        for s in range(border[run], border[run + 1]):
            for begin in range(first[s], first[s + 1], PIECE):
                n = min(PIECE, first[s + 1] - begin)
                for j in range(n):
                    place[j] = start + query[begin + j]
                place[n : n + 4] = place[0]
                for h in range(q.shape[0]):
                    for j in range(n):
                        p[j] = weight[h, query[begin + j], column[begin + j]]
                        ds[j] = dweight[h, query[begin + j], column[begin + j]]
                    p[n : n + 4] = 0
                    ds[n : n + 4] = 0
                    add_rows(ds, q[h], place, n, dk[s])
                    add_rows(p, dout[h], place, n, dv[s])


@numba.njit(fastmath=FAST, cache=True)
def dots(x, rows, place, n, scale, result):  # noqa: ANN001
    """result[j] = scale x . rows[place[j]]; may write three numbers behind n."""
    for j in range(0, n, 4):
        r0, r1, r2, r3 = rows[place[j]], rows[place[j + 1]], rows[place[j + 2]], rows[place[j + 3]]
        a0, a1, a2, a3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for d in range(x.shape[0]):
            a0 += x[d] * r0[d]
            a1 += x[d] * r1[d]
            a2 += x[d] * r2[d]
            a3 += x[d] * r3[d]
        result[j], result[j + 1], result[j + 2], result[j + 3] = scale * a0, scale * a1, scale * a2, scale * a3


@numba.njit(fastmath=FAST, cache=True)
def add_rows(weight, rows, place, n, result):  # noqa: ANN001
    """result += sum_j weight[j] rows[place[j]]; the weights behind n are zero."""
    for j in range(0, n, 4):
        r0, r1, r2, r3 = rows[place[j]], rows[place[j + 1]], rows[place[j + 2]], rows[place[j + 3]]
        a0, a1, a2, a3 = weight[j], weight[j + 1], weight[j + 2], weight[j + 3]
        for d in range(result.shape[0]):
            result[d] += a0 * r0[d] + a1 * r1[d] + a2 * r2[d] + a3 * r3[d]


@numba.njit(fastmath=FAST, cache=True)
def add_scaled(result, weight, x):  # noqa: ANN001
    """result += weight x."""
    for d in range(x.shape[0]):
        result[d] += weight * x[d]
