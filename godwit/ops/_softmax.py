"""Softmax weights in compiled loops, with an exponential that vectorises (numba's own is one call a number).

e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2: a polynomial of degree 6 for e^r (error below 2e-7 of it), and
2^n by writing n into the exponent bits.
"""

import numpy as np

from godwit.ops._numba import numba

FAST = {"contract", "reassoc", "nsz"}


@numba.njit(fastmath=FAST, cache=True)
def exponentials(x, n, power):  # noqa: ANN001 (compiled: types are inferred)
    """Replace the first n of x (all at most 0) by e^x; `power` (int32) is scratch. Returns their sum."""
    for j in range(n):
        value = max(x[j], np.float32(-87))
        whole = np.floor(value * np.float32(1.44269504) + np.float32(0.5))
        r = (value - whole * np.float32(0.693359375)) + whole * np.float32(2.12194440e-4)
        y = np.float32(1.3888889e-3)
        y = y * r + np.float32(8.3333333e-3)
        y = y * r + np.float32(4.1666667e-2)
        y = y * r + np.float32(1.6666667e-1)
        y = y * r + np.float32(0.5)
        y = y * r + np.float32(1)
        x[j] = y * r + np.float32(1)
        power[j] = (np.int32(whole) + np.int32(127)) << np.int32(23)
    scale = power.view(np.float32)
    total = np.float32(0)
    for j in range(n):
        x[j] *= scale[j]
        total += x[j]
    return total


@numba.njit(fastmath=FAST, cache=True)
def softmax(x, n, power):  # noqa: ANN001
    """Turn the first n scores into weights in place; returns their log-sum-exp."""
    top = x[0]
    for j in range(1, n):
        top = max(top, x[j])
    for j in range(n):
        x[j] -= top
    total = exponentials(x, n, power)
    inverse = np.float32(1) / total
    for j in range(n):
        x[j] *= inverse
    return top + np.log(total)
