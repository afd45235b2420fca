"""The Triton kernel behind `triton`: a block of rows of one head against its kept columns, then against its window.

Columns kept before the window of the block's first row are seen by all its rows and come gathered, without a mask.
From there to the last row positions come as they lie; a row sees what is in its window, or kept, and not after it.
"""

import triton
import triton.language as tl

from godwit.ops._attend_triton import _rows, _store


@triton.jit
def attend(
    q_THD, k_TGD, v_TGE, keep_TH, column_HT, count_HT, start_N, window_N, border_N, out_THE,
    scale, num_tokens, num_heads, num_groups, width, value,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, VALUE: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Rows border[n] to border[n + 1] for n = `pid 0`, head `pid 1`; count[h, t] columns of h are kept before t."""
    row_0, row_end = tl.load(border_N + tl.program_id(0)), tl.load(border_N + tl.program_id(0) + 1)
    start, window = tl.load(start_N + tl.program_id(0)), tl.load(window_N + tl.program_id(0))
    head = tl.program_id(1)
    group = head // (num_heads // num_groups)
    row = row_0 + tl.arange(0, ROWS)
    inside = row < row_end
    query = row.to(tl.int64) * num_heads + head
    q = _rows(q_THD, query, inside, width, 0, width, WIDTH)
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    out = tl.zeros((ROWS, VALUE), tl.float32)
    low = tl.maximum(start, row_0 - window + 1)
    count_T = count_HT + head.to(tl.int64) * (num_tokens + 1)
    last = tl.load(count_T + low)
    for first in range(tl.load(count_T + start), last, TILE):
        lane = first + tl.arange(0, TILE)
        column = tl.load(column_HT + head.to(tl.int64) * num_tokens + lane, mask=lane < last, other=0)
        key = column.to(tl.int64) * num_groups + group
        seen = (lane < last)[None, :] & inside[:, None]
        top, total, out = _add(
            q, k_TGD, v_TGE, key, lane < last, seen, top, total, out, scale, width, value, WIDTH, VALUE
        )  # fmt: skip
    for first in range(low, row_end, TILE):
        column = first + tl.arange(0, TILE)
        key = column.to(tl.int64) * num_groups + group
        kept = tl.load(keep_TH + column.to(tl.int64) * num_heads + head, mask=column < row_end, other=0) != 0
        near = column[None, :] > row[:, None] - window
        seen = (near | kept[None, :]) & (column[None, :] <= row[:, None])
        top, total, out = _add(
            q, k_TGD, v_TGE, key, column < row_end, seen, top, total, out, scale, width, value, WIDTH, VALUE
        )  # fmt: skip
    _store(out_THE, query, inside, value, 0, value, out / total[:, None], VALUE)


@triton.jit
def _add(
    q, k_TGD, v_TGE, key, there, seen, top, total, out, scale, width, value,
    WIDTH: tl.constexpr, VALUE: tl.constexpr,
):  # fmt: skip
    """One step of a softmax that sees its scores tile by tile: maximum, sum and weighted values so far."""
    k = _rows(k_TGD, key, there, width, 0, width, WIDTH)
    score = tl.where(seen, tl.dot(q, tl.trans(k), input_precision="ieee") * scale, float("-inf"))
    new_top = tl.maximum(top, tl.max(score, axis=1))
    shift = tl.where(new_top == float("-inf"), 0.0, new_top)
    p, decay = tl.exp(score - shift[:, None]), tl.exp(top - shift)
    v = _rows(v_TGE, key, there, value, 0, value, VALUE)
    out = tl.dot(p.to(v.dtype), v, out * decay[:, None], input_precision="ieee")
    return new_top, total * decay + tl.sum(p, axis=1), out
