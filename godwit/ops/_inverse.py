"""Selections read the other way round: for every position the queries that chose it, in order.

A gradient of keys sums over the queries that chose them. Handed out by position instead of by query, each sum belongs
to one thread and has one order, so it has the same bits in every run and with any number of threads.

Letters: Q queries, K selected positions, T positions, N = Q K entries, B runs of positions.
"""

from typing import NamedTuple

import numpy as np

NUM_RUNS = 64


class ByPosition(NamedTuple):
    """Entries of a selection sorted by position, then by query.

    Attributes:
        first: int64 (T + 1), where each position's entries begin.
        query: int32 (N,), the row an entry stands in.
        column: int32 (N,), how many positions other than -1 stand before it in its row.
        border: int64 (B + 1), runs of positions with about equally many entries: one thread's work each.
    """

    first: np.ndarray
    query: np.ndarray
    column: np.ndarray
    border: np.ndarray


def invert(index: np.ndarray, num_positions: int) -> ByPosition:
    """Sort the entries of `index` (Q, K), int32, -1 for empty."""
    # numba takes a second to import.
    from godwit.ops._inverse_kernel import sort

    first = np.zeros(num_positions + 1, np.int64)
    query, column = np.empty(index.size, np.int32), np.empty(index.size, np.int32)
    sort(index, first, query, column)
    border = np.searchsorted(first, first[-1] * np.arange(NUM_RUNS + 1) // NUM_RUNS)
    border[0], border[-1] = 0, num_positions
    return ByPosition(first, query, column, border)
