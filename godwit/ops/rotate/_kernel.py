"""The compiled loops behind `compiled`. No products are fused with sums, so the bits are those of the reference."""

from numba import boolean, float32, int64, void

from godwit.ops._numba import numba

_HEADS = float32[:, :, ::1]
_TABLE = float32[:, ::1]
_SIGNATURE = void(_HEADS, _TABLE, _TABLE, int64, boolean, _HEADS)


@numba.njit(_SIGNATURE, cache=True, parallel=True)
def forth(x, cos, sin, start, interleaved, out):  # noqa: ANN001 (compiled: types are in the signature)
    """Columns from `start` rotated, first halves first; the others copied."""
    pairs = cos.shape[1]
    step, apart = (2, 1) if interleaved else (1, pairs)
    for t in numba.prange(x.shape[0]):
        for h in range(x.shape[1]):
            for d in range(start):
                out[t, h, d] = x[t, h, d]
            for p in range(pairs):
                a, b = x[t, h, start + step * p], x[t, h, start + step * p + apart]
                out[t, h, start + p] = a * cos[t, p] - b * sin[t, p]
                out[t, h, start + pairs + p] = b * cos[t, p] + a * sin[t, p]
            for d in range(start + 2 * pairs, x.shape[2]):
                out[t, h, d] = x[t, h, d]


@numba.njit(_SIGNATURE, cache=True, parallel=True)
def back(dout, cos, sin, start, interleaved, dx):  # noqa: ANN001 (compiled: types are in the signature)
    """The gradient: rotated the other way, and put where the pairs were."""
    pairs = cos.shape[1]
    step, apart = (2, 1) if interleaved else (1, pairs)
    for t in numba.prange(dout.shape[0]):
        for h in range(dout.shape[1]):
            for d in range(start):
                dx[t, h, d] = dout[t, h, d]
            for p in range(pairs):
                a, b = dout[t, h, start + p], dout[t, h, start + pairs + p]
                dx[t, h, start + step * p] = a * cos[t, p] + b * sin[t, p]
                dx[t, h, start + step * p + apart] = b * cos[t, p] - a * sin[t, p]
            for d in range(start + 2 * pairs, dout.shape[2]):
                dx[t, h, d] = dout[t, h, d]
