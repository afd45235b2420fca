"""The Triton kernels behind `triton`: what has a head dimension, so that only (queries, keys) tensors meet the memory.

A program's lanes are some heads of a block of queries. Keys are a tile of the document's own, or, if GATHERED, those at
the positions of the block's only query. Programs with the same keys never add to one place at the same time.
"""

import triton
import triton.language as tl

from godwit.ops._attend_triton import _parts, _products
from godwit.ops.index_topk._triton import _dots


@triton.jit(do_not_specialize=["first_row"])
def teacher_sums(
    q_TNE, k_TGE, index_TK, start_Q, visible_Q, border_N, lse_BN, first_row, num_picked, scale,
    num_heads, num_groups, num_blocks, main, rest,
    ROWS: tl.constexpr, HEADS: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr, TILE: tl.constexpr,
    GATHERED: tl.constexpr,
):  # fmt: skip
    """Log-sum-exp of the scores of block `pid 0`, heads `pid 1` (of `num_blocks` to a group)."""
    row_0, row_end = tl.load(border_N + tl.program_id(0)), tl.load(border_N + tl.program_id(0) + 1)
    query_head, inside, visible, group = _lanes(
        row_0, row_end, visible_Q, tl.program_id(1), num_heads, num_groups, num_blocks, ROWS, HEADS
    )  # fmt: skip
    q, q_rest = _parts(q_TNE, query_head, inside, main, rest, MAIN, REST)
    top = tl.full((ROWS * HEADS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS * HEADS,), tl.float32)
    for first in range(0, tl.max(visible, axis=0), TILE):
        column = first + tl.arange(0, TILE)
        place, there = _keys(index_TK, start_Q, row_0, column, visible, num_picked, GATHERED)
        seen = there[None, :] & (column[None, :] < visible[:, None])
        k, k_rest = _parts(k_TGE, place * num_groups + group, there, main, rest, MAIN, REST)
        score = _products(q, q_rest, k, k_rest, REST)
        score = tl.where(seen, score * scale, float("-inf"))
        new_top = tl.maximum(top, tl.max(score, axis=1))
        shift = tl.where(new_top == float("-inf"), 0.0, new_top)
        total = total * tl.exp(top - shift) + tl.sum(tl.exp(score - shift[:, None]), axis=1)
        top = new_top
    tl.store(
        lse_BN + query_head - first_row.to(tl.int64) * num_heads,
        top + tl.log(tl.where(inside, total, 1.0)),
        mask=inside,
    )


@triton.jit(do_not_specialize=["first_row"])
def teacher_means(
    q_TNE, k_TGE, index_TK, start_Q, visible_Q, border_N, lse_BN, p_BL, first_row, num_columns, num_picked, scale,
    num_heads, num_groups, num_blocks, main, rest,
    ROWS: tl.constexpr, HEADS: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr, TILE: tl.constexpr,
    GATHERED: tl.constexpr,
):  # fmt: skip
    """Mean over all heads of softmax weights, block `pid 0`, keys of tile `pid 1`; 0 at what is not seen."""
    row_0, row_end = tl.load(border_N + tl.program_id(0)), tl.load(border_N + tl.program_id(0) + 1)
    row = row_0 + tl.arange(0, ROWS)
    column = tl.program_id(1) * TILE + tl.arange(0, TILE)
    mean = tl.zeros((ROWS, TILE), tl.float32)
    most = tl.max(tl.load(visible_Q + row, mask=row < row_end, other=0), axis=0)
    if tl.program_id(1) * TILE < most:
        for number in range(0, num_groups * num_blocks):
            query_head, inside, visible, group = _lanes(
                row_0, row_end, visible_Q, number, num_heads, num_groups, num_blocks, ROWS, HEADS
            )  # fmt: skip
            place, there = _keys(index_TK, start_Q, row_0, column, visible, num_picked, GATHERED)
            q, q_rest = _parts(q_TNE, query_head, inside, main, rest, MAIN, REST)
            k, k_rest = _parts(k_TGE, place * num_groups + group, there, main, rest, MAIN, REST)
            score = _products(q, q_rest, k, k_rest, REST)
            lse = tl.load(lse_BN + query_head - first_row.to(tl.int64) * num_heads, mask=inside, other=0.0)
            seen = inside[:, None] & there[None, :] & (column[None, :] < visible[:, None])
            p = tl.where(seen, tl.exp(score * scale - lse[:, None]), 0.0)
            mean += tl.sum(tl.reshape(p, (ROWS, HEADS, TILE)), axis=1)
    target = p_BL + (row - first_row).to(tl.int64)[:, None] * num_columns + column[None, :]
    tl.store(target, mean / num_heads, mask=(row < row_end)[:, None] & (column < num_columns)[None, :])


@triton.jit(do_not_specialize=["first_row"])
def student_queries(
    q_THA, k_TA, w_TH, index_TK, start_Q, visible_Q, border_N, dscore_BL, dq_THA, dw_TH, first_row, num_columns,
    num_picked, num_heads, width,
    ROWS: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr, GATHERED: tl.constexpr,
):  # fmt: skip
    """Gradients of the index queries and head weights of block `pid 0`: dw = sum dI r; dq = sum dI w [dots > 0] k."""
    row_0, row_end = tl.load(border_N + tl.program_id(0)), tl.load(border_N + tl.program_id(0) + 1)
    query_head, inside, visible, _group = _lanes(row_0, row_end, visible_Q, 0, num_heads, 1, 1, ROWS, HEADS)
    dq = tl.zeros((ROWS * HEADS, WIDTH), tl.float32)
    dw = tl.zeros((ROWS * HEADS,), tl.float32)
    for first in range(0, tl.max(visible, axis=0), TILE):
        column = first + tl.arange(0, TILE)
        place, there = _keys(index_TK, start_Q, row_0, column, visible, num_picked, GATHERED)
        product, weight, _q, k = _dots(
            q_THA, k_TA, w_TH, row_0, row_end, place, there, num_heads, width, ROWS, HEADS, WIDTH
        )  # fmt: skip
        dscore = _dscores(dscore_BL, row_0, row_end, first_row, column, num_columns, ROWS, HEADS, TILE)
        dw += tl.sum(dscore * tl.maximum(product, 0.0), axis=1)
        ddots = tl.where(product > 0.0, dscore * weight[:, None], 0.0)
        dq = tl.dot(ddots.to(k.dtype), k, dq, input_precision="ieee")
    d = tl.arange(0, WIDTH)
    mask = inside[:, None] & (d < width)[None, :]
    tl.store(dq_THA + query_head[:, None] * width + d[None, :], dq, mask=mask)
    tl.store(dw_TH + query_head, dw, mask=inside)


@triton.jit(do_not_specialize=["first_row"])
def student_keys(
    q_THA, k_TA, w_TH, index_TK, start_Q, visible_Q, border_N, dscore_BL, dk, first_row, num_columns, num_picked,
    num_heads, width, num_blocks,
    ROWS: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr, GATHERED: tl.constexpr,
):  # fmt: skip
    """What blocks `pid 0 * num_blocks ..` give to the keys of tile `pid 1`: dk = sum dI w [dots > 0] q.

    Added to the rows of `dk` (T, A), or, if GATHERED, written to the block's own (B, K, A).
    """
    column = tl.program_id(1) * TILE + tl.arange(0, TILE)
    total = tl.zeros((TILE, WIDTH), tl.float32)
    for number in range(tl.program_id(0) * num_blocks, (tl.program_id(0) + 1) * num_blocks):
        row_0, row_end = tl.load(border_N + number), tl.load(border_N + number + 1)
        row = row_0 + tl.arange(0, ROWS)
        visible = tl.load(visible_Q + row, mask=row < row_end, other=0)
        if tl.program_id(1) * TILE < tl.max(visible, axis=0):
            place, there = _keys(index_TK, start_Q, row_0, column, visible, num_picked, GATHERED)
            product, weight, q, _k = _dots(
                q_THA, k_TA, w_TH, row_0, row_end, place, there, num_heads, width, ROWS, HEADS, WIDTH
            )  # fmt: skip
            dscore = _dscores(dscore_BL, row_0, row_end, first_row, column, num_columns, ROWS, HEADS, TILE)
            ddots = tl.where(product > 0.0, dscore * weight[:, None], 0.0)
            total = tl.dot(tl.trans(ddots.to(q.dtype)), q, total, input_precision="ieee")
    d = tl.arange(0, WIDTH)
    mask = (column < num_columns)[:, None] & (d < width)[None, :]
    if GATHERED:
        slot = tl.program_id(0).to(tl.int64) * num_columns + column
        tl.store(dk + slot[:, None] * width + d[None, :], total, mask=mask)
    else:
        key = (tl.load(start_Q + first_row) + column).to(tl.int64)
        target = dk + key[:, None] * width + d[None, :]
        tl.store(target, tl.load(target, mask=mask, other=0.0) + total, mask=mask)


@triton.jit
def _lanes(
    row_0, row_end, visible_Q, number, num_heads, num_groups, num_blocks, ROWS: tl.constexpr, HEADS: tl.constexpr
):  # fmt: skip
    """(Query, head) of each lane, which there are, what their queries see, and the group of block `number` of heads."""
    lane = tl.arange(0, ROWS * HEADS)
    group, size = number // num_blocks, num_heads // num_groups
    head, row = number % num_blocks * HEADS + lane % HEADS, row_0 + lane // HEADS
    inside = (head < size) & (row < row_end)
    visible = tl.load(visible_Q + row, mask=row < row_end, other=0)
    return row.to(tl.int64) * num_heads + group * size + head, inside, visible, group


@triton.jit
def _keys(index_TK, start_Q, row_0, column, visible, num_picked, GATHERED: tl.constexpr):
    """Flat positions of the columns' keys, and which of them any of the block's queries sees."""
    there = column < tl.max(visible, axis=0)
    if GATHERED:
        place = tl.load(index_TK + row_0.to(tl.int64) * num_picked + column, mask=there, other=-1)
        there = place >= 0
    else:
        place = tl.load(start_Q + row_0) + column
    return place.to(tl.int64), there


@triton.jit
def _dscores(
    dscore_BL, row_0, row_end, first_row, column, num_columns,
    ROWS: tl.constexpr, HEADS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Gradients of the block's scores, repeated for each head: `(ROWS * HEADS, TILE)`."""
    row = row_0 + tl.arange(0, ROWS)
    source = dscore_BL + (row - first_row).to(tl.int64)[:, None] * num_columns + column[None, :]
    dscore = tl.load(source, mask=(row < row_end)[:, None] & (column < num_columns)[None, :], other=0.0)
    return tl.reshape(tl.broadcast_to(dscore[:, None, :], (ROWS, HEADS, TILE)), (ROWS * HEADS, TILE))
