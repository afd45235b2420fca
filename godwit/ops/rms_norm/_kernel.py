"""The compiled loops behind `compiled`. With r = 1 / sqrt(mean(x^2) + eps) and y = weight r x:

dx = r (weight dy - x r^2 mean(weight dy x)),  dweight = sum over rows of dy r x.

Sums of a row are written out, not left to numba's `fastmath`: what that makes of a loop differs between the process
that compiles it and those that load it, and a resumed run must have the bits of one that was not interrupted.
"""

import numpy as np
from numba import types

from godwit.ops._lanes import LANES, Emitter, int64, joined, operation, pointer_and_shape, whole_vectors
from godwit.ops._numba import njit, numba

# Columns that a thread sums up over all rows: the same bits with any number of threads.
COLUMNS = 64
# Rows whose float32 sum goes into one of float64.
ROWS = 64


@operation
def sum_of_products(typing, a, b, t):  # noqa: ANN001 (numba passes its own types)
    """sum_d a[t, d] b[t, d], float32."""
    return types.float32(a, b, types.int64), _emit_sum


def _emit_sum(context, builder, signature, arguments):  # noqa: ANN001
    arrays = [pointer_and_shape(context, builder, signature.args[n], arguments[n]) for n in range(2)]
    (a, (_, width)), (b, _) = arrays
    wide, one = Emitter(builder), Emitter(builder, lanes=1)
    row = builder.mul(arguments[2], width)
    starts, whole = [wide.at(a, row), wide.at(b, row)], whole_vectors(builder, width)

    def add(emit, d, sums):  # noqa: ANN001
        x, y = (emit.load(emit.at(start, d)) for start in starts)
        return [emit.multiply_add(x, y, sums[0])]

    lanes = wide.loop(whole, [wide.constant(0.0)], lambda d, sums: add(wide, d, sums), step=LANES)[0]
    rest = one.loop(width, [one.constant(0.0)], lambda d, sums: add(one, d, sums), start=whole)[0]
    total = joined([builder.extract_element(lanes, int64(lane)) for lane in range(LANES)], builder.fadd)
    return builder.fadd(total, builder.extract_element(rest, int64(0)))


@njit(parallel=True)
def normalise(x, weight, eps, out, inverse):  # noqa: ANN001 (compiled: types are inferred)
    """Fill `out` (T, D) with y and `inverse` (T,) with r."""
    width = x.shape[1]
    for t in numba.prange(x.shape[0]):
        r = np.float32(1) / np.sqrt(sum_of_products(x, x, t) / np.float32(width) + np.float32(eps))
        inverse[t] = r
        for d in range(width):
            out[t, d] = x[t, d] * r * weight[d]


@njit(parallel=True)
def row_gradients(x, weight, inverse, dout, dx):  # noqa: ANN001
    """Fill `dx` (T, D)."""
    width = x.shape[1]
    for t in numba.prange(x.shape[0]):
        for d in range(width):
            dx[t, d] = dout[t, d] * weight[d]
        r = inverse[t]
        along = sum_of_products(dx, x, t) * (r * r / np.float32(width))
        for d in range(width):
            dx[t, d] = r * (dx[t, d] - x[t, d] * along)


@njit(parallel=True)
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
