"""The compiled loop behind `compiled`: few queries, each against its document's tiles where they lie.

The tiles of one query are divided into runs, so that one decoded token uses all threads. Each run keeps its own k
best; what is best of all is among them, and cutting the runs' lists, laid in order, keeps lower positions first.
"""

import numpy as np

from godwit.ops._numba import inner, njit, numba
from godwit.ops.index_topk._best import cut
from godwit.ops.index_topk._pack import PANEL, keep, number_panel, room_for, seen
from godwit.ops.index_topk._scores import score_panel


@njit(parallel=True)
def select(q, w, tiles, page, table, document, visible, num_runs, rows):  # noqa: ANN001 (compiled: types are inferred)
    """Fill `rows` (Q, K) for queries that see the first `visible` (Q,) positions of their `document` (Q,)."""
    num_queries, width = rows.shape
    score = np.empty((num_queries, num_runs, width), np.float32)
    place = np.empty((num_queries, num_runs, width), np.int32)
    count = np.zeros((num_queries, num_runs), np.int64)
    for i in numba.prange(num_queries * num_runs):
        t, run = i // num_runs, i % num_runs
        if visible[t] > width:
            count[t, run] = best_of_run(
                q, w, t, tiles, page, table[document[t]], visible[t], run, num_runs, score[t, run], place[t, run]
            )
    all_rows(page, table, document, visible, rows)
    for t in range(num_queries):
        if visible[t] > width:
            merge(score[t], place[t], count[t], page, table[document[t]], rows[t])


@njit
def all_rows(page, table, document, visible, rows):  # noqa: ANN001
    """Fill the rows of queries that see no more than these hold: with all they see, -1 behind."""
    for t in range(rows.shape[0]):
        n = visible[t]
        if n <= rows.shape[1]:
            for s in range(n):
                rows[t, s] = table[document[t], s // page] * page + s % page
            rows[t, n:] = -1


@inner
def best_of_run(q, w, row, tiles, page, pages, visible, run, num_runs, best_score, best_place):  # noqa: ANN001
    """The best positions, in order, of the run's share of the tiles for query `row`; returns how many."""
    width = best_score.shape[0]
    room = room_for(width)
    score, place = np.empty((1, room + PANEL), np.float32), np.empty((1, room + PANEL), np.int32)
    fresh, here, key = np.empty(PANEL, np.float32), np.empty(PANEL, np.int32), np.empty(room + PANEL, np.int32)
    num_tiles = (visible + PANEL - 1) // PANEL
    # Nothing is at most NaN: until k have come, all are kept.
    n, threshold = 0, np.float32(np.nan)
    for tile in range(num_tiles * run // num_runs, num_tiles * (run + 1) // num_runs):
        at = pages[tile * PANEL // page] * page + tile * PANEL % page
        above = score_panel(q, w, row, tiles, at // PANEL, threshold, fresh) & seen(visible - tile * PANEL)
        number_panel(tile * PANEL, here)
        n = keep(fresh, here, above, score, place, 0, n)
        if n > room:
            threshold = cut(score, place, 0, n, width, key)
            n = width
    if n > width:
        cut(score, place, 0, n, width, key)
        n = width
    best_score[:n] = score[0, :n]
    best_place[:n] = place[0, :n]
    return n


@inner
def merge(run_score, run_place, count, page, pages, rows):  # noqa: ANN001
    """The best of all runs' best, as rows of the pool."""
    width, room = rows.shape[0], count.sum() + PANEL
    score, place = np.empty((1, room), np.float32), np.empty((1, room), np.int32)
    n = 0
    for run in range(count.shape[0]):
        score[0, n : n + count[run]] = run_score[run, : count[run]]
        place[0, n : n + count[run]] = run_place[run, : count[run]]
        n += count[run]
    if n > width:
        cut(score, place, 0, n, width, np.empty(room, np.int32))
    for s in range(width):
        rows[s] = pages[place[0, s] // page] * page + place[0, s] % page
