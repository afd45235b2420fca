"""Rows for positions, in a compiled loop."""

from godwit.ops._numba import njit, numba


@njit(parallel=True)
def look_up(row, index):  # noqa: ANN001 (compiled: types are inferred)
    """Replace every position in `index` (Q, K) by its `row` (L,); what is negative stays so."""
    for i in numba.prange(index.shape[0]):
        for j in range(index.shape[1]):
            if index[i, j] >= 0:
                index[i, j] = row[index[i, j]]
