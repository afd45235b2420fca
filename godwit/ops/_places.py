"""The positions of one query's selection, in compiled loops."""

from godwit.ops._numba import njit

PAD = 16
"""Places behind the last that loops over several rows at once may read."""


@njit
def places(index, place):  # noqa: ANN001 (compiled: types are inferred)
    """Copy the positions that are not -1, repeat the first PAD times behind them, return their number."""
    n = 0
    for j in range(index.shape[0]):
        if index[j] >= 0:
            place[n] = index[j]
            n += 1
    place[n : n + PAD] = place[0]
    return n
