"""The compiled loops behind `compiled`: scores of a panel of keys, and the best of them kept while they come.

Scores are made for a panel of neighbouring keys at a time (`_scores`) and never stored. A row keeps what beats its
threshold in a buffer of some k entries; a full buffer is cut back to the k best (`_best`), which raises the threshold
to the k-th best so far. Positions come in order and must then *exceed* a threshold that k earlier ones reach, so ties
go to the lower position.

What a row keeps costs more than what it passes over, so it starts from a guess: every STRIDE-th key is a sample, and
a score that safely more than k / STRIDE of the sample reach is safely below the k-th best. Were it not, fewer than k
would be left, and the row is done again without a guess. So the guess saves time and never changes the selection.

Every score is the same operations whatever block of queries or keys it is computed in: panels are always whole.
"""

import numpy as np

from godwit.ops._numba import inner, njit, numba
from godwit.ops._share import blocks_left
from godwit.ops.index_topk._best import cut, kth_largest, score_of, sortable
from godwit.ops.index_topk._pack import PANEL, keep, number_panel, room_for, seen
from godwit.ops.index_topk._scores import score_panel

# Queries that go over one panel of keys while it lies in the cache.
ROWS = 32
# One key of so many is in the sample: its scores cost 3 % of all, and its ranks are fine enough for k of 100 and more.
STRIDE = 32


@njit(parallel=True)
def select(threads, q, w, panels, sample, num_before, offset, index):  # noqa: ANN001 (compiled: types are inferred)
    """Fill `index` (Q, K) for queries that are positions `num_before`, `num_before + 1`, ... of their document."""
    num_queries, width = index.shape
    num_blocks = (num_queries + ROWS - 1) // ROWS
    room = room_for(width)
    taken = np.zeros(1, np.int64)
    for _ in numba.prange(threads):
        score = np.empty((ROWS, room + PANEL), np.float32)
        place = np.empty((ROWS, room + PANEL), np.int32)
        key = np.empty(max(room, sample.shape[0] * PANEL) + PANEL, np.int32)
        count = np.empty(ROWS, np.int64)
        threshold = np.empty(ROWS, np.float32)
        for i in blocks_left(taken, num_blocks):
            # Late queries see more, so they go first: what is left at the end are short blocks.
            block = num_blocks - 1 - i
            first, last = block * ROWS, min((block + 1) * ROWS, num_queries)
            for r in range(first, last):
                count[r - first] = 0
                threshold[r - first] = guess(q, w, r, sample, num_before + r + 1, width, key)
            scan(q, w, panels, first, last, num_before, width, threshold, count, score, place, key)
            for r in range(first, last):
                visible = num_before + r + 1
                if visible <= width:
                    take_all(index, r, visible, offset)
                    continue
                if count[r - first] < width:
                    # Slot 0 belonged to the block's first row, which is finished.
                    threshold[0], count[0] = np.nan, 0
                    scan(q, w, panels, r, r + 1, num_before, width, threshold, count, score, place, key)
                    finish(score, place, 0, count[0], width, key, offset, index, r)
                else:
                    finish(score, place, r - first, count[r - first], width, key, offset, index, r)


@inner
def scan(q, w, panels, first, last, num_before, width, threshold, count, score, place, key):  # noqa: ANN001
    """Go over all panels with rows `first:last`; their best lie in the rows of `score` and `place`, `count` of them."""
    room = score.shape[1] - PANEL
    fresh, here = np.empty(PANEL, np.float32), np.empty(PANEL, np.int32)
    for t in range((num_before + last + PANEL - 1) // PANEL):
        number_panel(t * PANEL, here)
        for r in range(last - first):
            visible = num_before + first + r + 1
            if visible > width and t * PANEL < visible:
                above = score_panel(q, w, first + r, panels, t, threshold[r], fresh) & seen(visible - t * PANEL)
                n = keep(fresh, here, above, score, place, r, count[r])
                if n > room:
                    threshold[r] = cut(score, place, r, n, width, key)
                    n = width
                count[r] = n


@inner
def guess(q, w, row, sample, visible, width, key):  # noqa: ANN001
    """A score that most likely more than `width` of the visible keys reach; NaN where a guess would not pay."""
    expected = np.float64(width) / STRIDE
    # The number of the k best that are in the sample is nearly a Poisson number: 3 deviations and 1 are 1 in 500.
    rank = np.int64(expected + 3 * np.sqrt(expected)) + 1
    # What a guess lets through should be well below what is there.
    if 2 * rank * STRIDE > visible:
        return np.float32(np.nan)
    n = (visible + STRIDE - 1) // STRIDE
    score = key.view(np.float32)
    for t in range((n + PANEL - 1) // PANEL):
        score_panel(q, w, row, sample, t, np.float32(0), score[t * PANEL : (t + 1) * PANEL])
    sortable(score, n, key)
    found = kth_largest(key, n, rank)
    # As a score again; and what equals it shall pass, for where many scores are 0 the k-th best may be one of them.
    return np.nextafter(score_of(found, key), np.float32(-np.inf))


@inner
def take_all(index, row, visible, offset):  # noqa: ANN001
    """A row of `index` for a query that sees no more than fit: all of them, -1 behind."""
    for s in range(visible):
        index[row, s] = offset + s
    for s in range(visible, index.shape[1]):
        index[row, s] = -1


@inner
def finish(score, place, slot, n, width, key, offset, index, row):  # noqa: ANN001
    """The k best of the n in a slot, as flat positions of a row of `index`."""
    if n > width:
        cut(score, place, slot, n, width, key)
    for s in range(width):
        index[row, s] = offset + place[slot, s]
