"""The compiled loop behind `_inverse`: a counting sort."""

from godwit.ops._numba import njit


@njit
def sort(index, first, query, column):  # noqa: ANN001 (compiled: types are inferred)
    """Fill what `_inverse.ByPosition` holds; `first` comes as zeros."""
    num_queries, width = index.shape
    num_positions = first.shape[0] - 1
    for t in range(num_queries):
        for j in range(width):
            if index[t, j] >= 0:
                first[index[t, j] + 1] += 1
    for s in range(num_positions):
        first[s + 1] += first[s]
    for t in range(num_queries):
        n = 0
        for j in range(width):
            s = index[t, j]
            if s >= 0:
                query[first[s]] = t
                column[first[s]] = n
                # Moves each beginning on to the next position's; put right below.
                first[s] += 1
                n += 1
    for s in range(num_positions, 0, -1):
        first[s] = first[s - 1]
    first[0] = 0
