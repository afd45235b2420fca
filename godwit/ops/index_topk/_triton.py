"""The Triton kernels behind `triton`: index scores of some queries, then each row's best by the digits of its scores.

`scores` multiplies the heads of a few queries with a tile of keys in one product, so that a key that was loaded serves
all of them; a score is the same instructions whichever queries stand beside it. Scores go to a float32 workspace of
some rows, not of all.

`select` finds a row's k-th best by four digits of 8 bits, of floats as integers that sort alike (all lower bits of
negatives flipped): count the digits of the entries that share the prefix found so far, walk down from the largest
digit until k are counted. A last pass writes in order of position what is above the k-th best, and of its equals the
first ones that fit. Counts are integers, so nothing depends on the order in which threads come.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["first_row"])
def scores(
    q_QHD, k_TD, w_QH, index_QK, start_Q, visible_Q, border_N, out, first_row, out_width, num_heads, width,
    ROWS: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr, GATHERED: tl.constexpr,
):  # fmt: skip
    """Scores of query block `pid 0` (rows border[n] to border[n + 1] of one document) against key tile `pid 1`.

    Keys are the document's own up to each row's `visible`, or, if GATHERED, those at the positions of the block's only
    row. `out` holds `out_width` columns a row from `first_row` on; what a row does not see is -inf.
    """
    row_0, row_end = tl.load(border_N + tl.program_id(0)), tl.load(border_N + tl.program_id(0) + 1)
    column = tl.program_id(1) * TILE + tl.arange(0, TILE)
    row = row_0 + tl.arange(0, ROWS)
    visible = tl.load(visible_Q + row, mask=row < row_end, other=0)
    most = tl.max(visible, axis=0)
    score = tl.full((ROWS, TILE), float("-inf"), tl.float32)
    if tl.program_id(1) * TILE < most:
        seen = column < most
        if GATHERED:
            place = tl.load(index_QK + row_0.to(tl.int64) * out_width + column, mask=seen, other=-1)
            seen = place >= 0
        else:
            place = tl.load(start_Q + row_0) + column
        product, weight, _q, _k = _dots(
            q_QHD, k_TD, w_QH, row_0, row_end, place, seen, num_heads, width, ROWS, HEADS, WIDTH
        )  # fmt: skip
        weighted = tl.maximum(product, 0.0) * weight[:, None]
        total = tl.sum(tl.reshape(weighted, (ROWS, HEADS, TILE)), axis=1)
        score = tl.where(seen[None, :] & (column[None, :] < visible[:, None]), total, float("-inf"))
    target = out + (row - first_row).to(tl.int64)[:, None] * out_width + column[None, :]
    tl.store(target, score, mask=(row < row_end)[:, None] & (column < out_width)[None, :])


@triton.jit
def _dots(
    q_QHD, k_TD, w_QH, row_0, row_end, place, seen, num_heads, width,
    ROWS: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Products of the block's queries with the keys at `place`, `(ROWS * HEADS, TILE)`; weights, queries and keys."""
    lane = tl.arange(0, ROWS * HEADS)
    head, row = lane % HEADS, row_0 + lane // HEADS
    inside = (head < num_heads) & (row < row_end)
    query_head = row.to(tl.int64) * num_heads + head
    d = tl.arange(0, WIDTH)
    within = (d < width)[None, :]
    q = tl.load(q_QHD + query_head[:, None] * width + d[None, :], mask=inside[:, None] & within, other=0.0)
    k = tl.load(k_TD + place.to(tl.int64)[:, None] * width + d[None, :], mask=seen[:, None] & within, other=0.0)
    weight = tl.load(w_QH + query_head, mask=inside, other=0.0)
    return tl.dot(q, tl.trans(k), input_precision="ieee"), weight, q, k


@triton.jit(do_not_specialize=["first_row"])
def select(score_QL, start_Q, visible_Q, index_QK, first_row, score_width, width, TILE: tl.constexpr):
    """Write the `width` best positions of row `first_row + pid 0`, ascending; fewer where fewer are visible."""
    row = first_row + tl.program_id(0)
    count, start = tl.load(visible_Q + row), tl.load(start_Q + row)
    score_L = score_QL + tl.program_id(0).to(tl.int64) * score_width
    index_K = index_QK + row.to(tl.int64) * width
    lane = tl.arange(0, TILE)
    # The k-th best key, and how many of its equals are taken; a short row takes all that is above the smallest integer.
    threshold, room = tl.full((), -(2**31), tl.int32), tl.full((), 0, tl.int32)
    if count > width:
        threshold, room = _kth_best(score_L, count, width, TILE)
    taken, equals = tl.full((), 0, tl.int32), tl.full((), 0, tl.int32)
    for first in range(0, count, TILE):
        column = first + lane
        key = _ordered(score_L, column, count)
        equal = ((key == threshold) & (column < count)).to(tl.int32)
        take = (key > threshold) & (column < count)
        take = take | ((equal == 1) & (equals + tl.cumsum(equal, axis=0) <= room))
        slot = taken + tl.cumsum(take.to(tl.int32), axis=0) - 1
        tl.store(index_K + slot, start + column, mask=take)
        taken += tl.sum(take.to(tl.int32), axis=0)
        equals += tl.sum(equal, axis=0)


@triton.jit
def _kth_best(score_L, count, k, TILE: tl.constexpr):
    """The k-th largest of the row's first `count` keys, and how many of those equal to it are among the k best."""
    prefix, room = tl.full((), 0, tl.int32), k
    digit = tl.arange(0, 256)
    for step in tl.static_range(4):
        shift = 24 - 8 * step
        number = tl.zeros((256,), tl.int32)
        for first in range(0, count, TILE):
            column = first + tl.arange(0, TILE)
            key = _ordered(score_L, column, count)
            mine = column < count
            if step == 0:
                value = (key >> 24) + 128
            else:
                mine = mine & ((key >> (shift + 8)) == prefix)
                value = (key >> shift) & 255
            number += tl.histogram(value, 256, mask=mine)
        # Entries whose digit is at least this one; the largest digit that k of them reach.
        at_least = tl.sum(number, axis=0) - tl.cumsum(number, axis=0) + number
        found = tl.max(tl.where(at_least >= room, digit, 0), axis=0)
        room -= tl.sum(tl.where(digit > found, number, 0), axis=0)
        if step == 0:
            prefix = found - 128
        else:
            prefix = prefix * 256 + found
    return prefix, room


@triton.jit
def _ordered(score_L, column, count):
    """Scores as integers in the same order; both zeros are one."""
    score = tl.load(score_L + column, mask=column < count, other=0.0)
    bits = tl.where(score == 0.0, 0.0, score).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
