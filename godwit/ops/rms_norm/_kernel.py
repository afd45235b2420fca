"""The compiled loops behind `compiled`. With r = 1 / sqrt(mean(x^2) + eps) and y = weight r x:

dx = r (weight dy - x r^2 mean(weight dy x)),  dweight = sum over rows of dy r x.
"""

import numpy as np

from godwit.ops._numba import njit, numba

# Sums may be vector work: each row's is made in one order whatever the number of threads.
FAST = {"contract", "reassoc", "nsz"}
# Columns that a thread sums up over all rows: the same bits with any number of threads.
COLUMNS = 64
# Rows whose float32 sum goes into one of float64.
ROWS = 64


@njit(parallel=True, fastmath=FAST)
def normalise(x, weight, eps, out, inverse):  # noqa: ANN001 (compiled: types are inferred)
    """Fill `out` (T, D) with y and `inverse` (T,) with r."""
    width = x.shape[1]
    for t in numba.prange(x.shape[0]):
        total = np.float32(0)
        for d in range(width):
            total += x[t, d] * x[t, d]
        r = np.float32(1) / np.sqrt(total / np.float32(width) + np.float32(eps))
        inverse[t] = r
        for d in range(width):
            out[t, d] = x[t, d] * r * weight[d]


@njit(parallel=True, fastmath=FAST)
def row_gradients(x, weight, inverse, dout, dx):  # noqa: ANN001
    """Fill `dx` (T, D)."""
    width = x.shape[1]
    for t in numba.prange(x.shape[0]):
        along = np.float32(0)
        for d in range(width):
            along += dout[t, d] * weight[d] * x[t, d]
        r = inverse[t]
        along *= r * r / np.float32(width)
        for d in range(width):
            dx[t, d] = r * (dout[t, d] * weight[d] - x[t, d] * along)


@njit(parallel=True, fastmath=FAST)
def weight_gradient(x, inverse, dout, dweight):  # noqa: ANN001
    """Fill `dweight` (D,)."""
    width = x.shape[1]
    for block in numba.prange((width + COLUMNS - 1) // COLUMNS):
        first, last = block * COLUMNS, min((block + 1) * COLUMNS, width)
        total, part = np.zeros(COLUMNS, np.float64), np.empty(COLUMNS, np.float32)
        for start in range(0, x.shape[0], ROWS):
            part[:] = 0
            for t in range(start, min(start + ROWS, x.shape[0])):
                for d in range(first, last):
                    part[d - first] += dout[t, d] * x[t, d] * inverse[t]
            total += part
        dweight[first:last] = total[: last - first]
