"""The compiled loop behind `compiled`. No products are fused with sums, so the bits are those of the reference."""

from numba import boolean, float32, int64, void

from godwit.ops._numba import njit, numba

_HEADS = float32[:, :, ::1]
_TABLE = float32[:, ::1]


@njit(void(_HEADS, _TABLE, _TABLE, int64, boolean, boolean, _HEADS), parallel=True)
def turn(x, cos, sin, start, from_pairs, to_pairs, out):  # noqa: ANN001 (compiled: types are in the signature)
    """Columns from `start` rotated, the others copied.

    Pairs are neighbours (`from_pairs`, `to_pairs`) or lie half the rotated width apart, where they are read and where
    they are written.
    """
    pairs = cos.shape[1]
    step, apart = (2, 1) if from_pairs else (1, pairs)
    out_step, out_apart = (2, 1) if to_pairs else (1, pairs)
    for t in numba.prange(x.shape[0]):
        for h in range(x.shape[1]):
            for d in range(start):
                out[t, h, d] = x[t, h, d]
            for p in range(pairs):
                a, b = x[t, h, start + step * p], x[t, h, start + step * p + apart]
                out[t, h, start + out_step * p] = a * cos[t, p] - b * sin[t, p]
                out[t, h, start + out_step * p + out_apart] = b * cos[t, p] + a * sin[t, p]
            for d in range(start + 2 * pairs, x.shape[2]):
                out[t, h, d] = x[t, h, d]
