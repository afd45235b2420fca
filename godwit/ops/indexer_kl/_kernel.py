"""The compiled loops behind `compiled`: per query, attention and index scores over its selected positions only.

    p = mean_l mean_n softmax(scale q_n . k);  I = sum_h w_h ReLU(q_h . k);  dI = softmax(I) - p
    dw_h = sum dI ReLU(q_h . k);  d(q_h . k) = dI w_h [q_h . k > 0];  dq_h += d k;  dk += d q_h

A key's gradient is cut by columns, as in `ops.sparse_mla._backward_kernel`: a thread owns `COLUMNS` of all keys and
goes over the queries in order, so the bits do not depend on the number of threads.
"""

import numpy as np

from godwit.ops._gathered import add_rows, dots
from godwit.ops._numba import inner, njit, numba
from godwit.ops._places import PAD, places
from godwit.ops._share import blocks_left
from godwit.ops._softmax import softmax

FAST = {"contract", "reassoc", "nsz"}
COLUMNS = 16
# Queries one thread works on, key head by key head: the keys of one head stay in the cache, those of all would not.
ROWS = 64


@njit(parallel=True)
def add_attention(threads, q, k, index, scale, total, entropy, own_entropy):  # noqa: ANN001 (compiled: types are inferred)
    """Add one teacher's mean attention to `total` (Q, K), and its sum p log p to `entropy` (Q,) if that is asked for.

    q is (Q, N, E), k by head (G, T, E).
    """
    repeat, num_blocks = q.shape[1] // k.shape[0], (q.shape[0] + ROWS - 1) // ROWS
    share = np.float32(1) / np.float32(q.shape[1])
    taken = np.zeros(1, np.int64)
    for _ in numba.prange(threads):
        place = np.zeros((ROWS, index.shape[1] + PAD), np.int64)
        count = np.zeros(ROWS, np.int64)
        p = np.empty(index.shape[1] + PAD, np.float32)
        own = np.empty((ROWS, index.shape[1]), np.float32)
        for block in blocks_left(taken, num_blocks):
            first, last = block * ROWS, min((block + 1) * ROWS, q.shape[0])
            own[:] = 0
            for i in range(first, last):
                count[i - first] = places(index[i], place[i - first])
            for g in range(k.shape[0]):
                for i in range(first, last):
                    n = count[i - first]
                    for h in range(g * repeat, (g + 1) * repeat):
                        dots(q[i, h], k[g], place[i - first], n, scale, p)
                        softmax(p, n)
                        for j in range(n):
                            own[i - first, j] += share * p[j]
            for i in range(first, last):
                n = count[i - first]
                if own_entropy:
                    entropy[i] += negative_entropy(own[i - first], n)
                for j in range(n):
                    total[i, j] += own[i - first, j]


@inner
def negative_entropy(p, n):  # noqa: ANN001
    """Sum of p log p over the first n, 0 log 0 = 0."""
    total = 0.0
    for j in range(n):
        if p[j] > 0:
            total += p[j] * np.log(p[j])
    return total


@njit(parallel=True)
def learn(q, k, w, index, target, kl, dots_gradient, dq, dw, gradients):  # noqa: ANN001
    """Take from `kl` (Q,), which comes with sum p log p, the cross term, and fill the gradients if they are wanted.

    `target` (Q, K) is p; `dots_gradient` (Q, H, K) is left for `add_to_keys`, `dq` (Q, H, A) comes as zeros.
    """
    for i in numba.prange(q.shape[0]):
        place = np.zeros(index.shape[1] + PAD, np.int64)
        n = places(index[i], place)
        products = np.empty((q.shape[1], index.shape[1] + PAD), np.float32)
        score, d = np.zeros(index.shape[1] + PAD, np.float32), np.zeros(index.shape[1] + PAD, np.float32)
        for h in range(q.shape[1]):
            dots(q[i, h], k, place, n, np.float32(1), products[h])
            for j in range(n):
                score[j] += w[i, h] * max(products[h, j], np.float32(0))
        cross, mass = 0.0, 0.0
        for j in range(n):
            cross += target[i, j] * score[j]
            mass += target[i, j]
        lse = softmax(score, n)
        kl[i] -= cross - mass * lse
        if gradients:
            for j in range(n):
                score[j] -= target[i, j]
            for h in range(q.shape[1]):
                total = 0.0
                for j in range(n):
                    on = products[h, j] > 0
                    total += score[j] * products[h, j] * on
                    d[j] = score[j] * w[i, h] * on
                    dots_gradient[i, h, j] = d[j]
                dw[i, h] = total
                d[n : n + PAD] = 0
                add_rows(d, k, place, n, dq[i, h])


@njit(parallel=True)
def add_to_keys(q, index, dots_gradient, dk):  # noqa: ANN001
    """Add to `dk` (A / COLUMNS, T, COLUMNS) what the queries (Q, H, A) left, A in whole blocks of columns, H even."""
    for block in numba.prange(dk.shape[0]):
        place = np.zeros(index.shape[1] + PAD, np.int64)
        own = np.empty((2, COLUMNS), np.float32)
        for i in range(q.shape[0]):
            n = places(index[i], place)
            for h in range(0, q.shape[1], 2):
                own[:] = q[i, h : h + 2, block * COLUMNS : (block + 1) * COLUMNS]
                add_two(dots_gradient[i, h], dots_gradient[i, h + 1], own[0], own[1], place, n, dk[block])


@inner(fastmath=FAST)
def add_two(a, b, x, y, place, n, rows):  # noqa: ANN001
    """rows[place[j]] += a[j] x + b[j] y."""
    for j in range(n):
        row = rows[place[j]]
        for d in range(COLUMNS):
            row[d] += a[j] * x[d] + b[j] * y[d]
