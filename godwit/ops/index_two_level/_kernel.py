"""The compiled loops behind `compiled`: block scores, the best blocks, exact scores inside them, the best of those."""

import numpy as np

from godwit.ops._numba import inner, njit, numba
from godwit.ops._share import blocks_left
from godwit.ops.index_topk._best import cut
from godwit.ops.index_topk._kernel import finish, take_all
from godwit.ops.index_topk._pack import PANEL, keep, number_panel, room_for, seen
from godwit.ops.index_topk._scores import score_panel

BLOCK = 128
PANELS = BLOCK // PANEL


@inner
def choose_blocks(q, w, row, mean_panels, own, num_blocks, score, place, key, kept):  # noqa: ANN001
    """Numbers of the kept blocks in ascending order into `kept`; returns how many."""
    kept[0] = 0
    if own == 0:
        return 1
    if own < num_blocks:
        for b in range(own + 1):
            kept[b] = b
        return own + 1
    wanted, n = num_blocks - 2, 0
    if wanted > 0:
        # All block scores first: few, and the last panel may hold blocks that are not before the query.
        for t in range((own + PANEL - 1) // PANEL):
            score_panel(q, w, row, mean_panels, t, np.float32(0), score[0, t * PANEL : (t + 1) * PANEL])
        for b in range(1, own):
            score[0, n] = score[0, b]
            place[0, n] = b
            n += 1
        cut(score, place, 0, n, wanted, key)
        for b in range(wanted):
            kept[1 + b] = place[0, b]
    kept[1 + wanted] = own
    return wanted + 2


@njit(parallel=True)
def select(threads, q, w, panels, mean_panels, num_blocks, num_before, offset, index):  # noqa: ANN001
    """Fill `index` (Q, K) for queries that are positions `num_before`, `num_before + 1`, ... of their document."""
    num_queries, width = index.shape
    room = room_for(width)
    size = max(room, mean_panels.shape[0] * PANEL) + PANEL
    taken = np.zeros(1, np.int64)
    for _ in numba.prange(threads):
        score, place = np.empty((1, size), np.float32), np.empty((1, size), np.int32)
        fresh, here, key = np.empty(PANEL, np.float32), np.empty(PANEL, np.int32), np.empty(size, np.int32)
        kept = np.empty(num_blocks, np.int32)
        for r in blocks_left(taken, num_queries):
            visible = num_before + r + 1
            if visible <= width:
                take_all(index, r, visible, offset)
                continue
            own = (visible - 1) // BLOCK
            num_kept = choose_blocks(q, w, r, mean_panels, own, num_blocks, score, place, key, kept)
            n, threshold = 0, np.float32(np.nan)
            for b in range(num_kept):
                first = kept[b] * PANELS
                for t in range(first, min(first + PANELS, (visible + PANEL - 1) // PANEL)):
                    above = score_panel(q, w, r, panels, t, threshold, fresh) & seen(visible - t * PANEL)
                    number_panel(t * PANEL, here)
                    n = keep(fresh, here, above, score, place, 0, n)
                    if n > room:
                        threshold = cut(score, place, 0, n, width, key)
                        n = width
            finish(score, place, 0, n, width, key, offset, index, r)
