"""Triton kernels of attention over gathered rows: those of `sparse_mla` and `sparse_attention`, forward and backward.

Some heads of one query, those that share keys, are one side of each product; a tile of its selected rows is the other.
Keys may be values too (SHARED: the first `main` numbers of a row), and a row's width may come in two parts, so that 576
needs sides of 512 and 64. With p = exp(scale q.k - lse) and delta = dout . out - dlse:

    dv += p dout;  ds = p (dout . v - delta) scale;  dq += ds k;  dk += ds q

The gradient of a row sums over all queries that selected it. `backward_rows` writes what each query gives to each of
its rows, and `add_rows` adds these up in order of the queries, entries of one row side by side after a stable sort: no
two programs write to one place, so gradients are the same in every run. It costs one pass through memory more than
atomic adds would.
"""

import triton
import triton.language as tl


@triton.jit
def forward(
    q_QHD, k_TGD, v_TGE, index_QK, out_QHE, lse_QH, scale, num_heads, num_groups, num_picked, main, rest, value,
    HEADS: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr, VALUE: tl.constexpr, TILE: tl.constexpr,
    PICKED: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """Query `pid 0`, heads of group `pid 2` in block `pid 1`."""
    query, group = tl.program_id(0).to(tl.int64), tl.program_id(2)
    head, inside = _heads(tl.program_id(1) * HEADS, group, num_heads, num_groups, HEADS)
    query_head = query * num_heads + head
    q, q_rest = _parts(q_QHD, query_head, inside, main, rest, MAIN, REST)
    top = tl.full((HEADS,), float("-inf"), tl.float32)
    total = tl.zeros((HEADS,), tl.float32)
    out = tl.zeros((HEADS, VALUE), tl.float32)
    for first in range(0, _end(index_QK + query * num_picked, num_picked, PICKED), TILE):
        row, seen = _places(index_QK + query * num_picked, first, num_picked, num_groups, group, TILE)
        k, k_rest = _parts(k_TGD, row, seen, main, rest, MAIN, REST)
        score = _products(q, q_rest, k, k_rest, REST)
        score = tl.where(seen[None, :], score * scale, float("-inf"))
        new_top = tl.maximum(top, tl.max(score, axis=1))
        # A tile may hold no position at all; then there is nothing to shift by.
        shift = tl.where(new_top == float("-inf"), 0.0, new_top)
        p = tl.exp(score - shift[:, None])
        decay = tl.exp(top - shift)
        total = total * decay + tl.sum(p, axis=1)
        if SHARED:
            v = k
        else:
            v = _rows(v_TGE, row, seen, value, 0, value, VALUE)
        out = tl.dot(p.to(v.dtype), v, out * decay[:, None], input_precision="ieee")
        top = new_top
    tl.store(lse_QH + query_head, top + tl.log(total), mask=inside)
    _store(out_QHE, query_head, inside, value, 0, value, out / total[:, None], VALUE)


@triton.jit
def backward_queries(
    q_QHD, k_TGD, v_TGE, index_QK, dout_QHE, lse_QH, delta_QH, dq_QHD,
    scale, num_heads, num_groups, num_picked, main, rest, value,
    HEADS: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr, VALUE: tl.constexpr, TILE: tl.constexpr,
    PICKED: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """Gradient of query `pid 0`, heads of group `pid 2` in block `pid 1`."""
    query, group = tl.program_id(0).to(tl.int64), tl.program_id(2)
    head, inside = _heads(tl.program_id(1) * HEADS, group, num_heads, num_groups, HEADS)
    query_head = query * num_heads + head
    q, q_rest = _parts(q_QHD, query_head, inside, main, rest, MAIN, REST)
    dq = tl.zeros((HEADS, MAIN), tl.float32)
    if REST:
        dq_rest = tl.zeros((HEADS, REST), tl.float32)
    else:
        dq_rest = dq
    dout = _rows(dout_QHE, query_head, inside, value, 0, value, VALUE)
    lse = tl.load(lse_QH + query_head, mask=inside, other=0.0)
    delta = tl.load(delta_QH + query_head, mask=inside, other=0.0)
    for first in range(0, _end(index_QK + query * num_picked, num_picked, PICKED), TILE):
        row, seen = _places(index_QK + query * num_picked, first, num_picked, num_groups, group, TILE)
        k, k_rest = _parts(k_TGD, row, seen, main, rest, MAIN, REST)
        score = _products(q, q_rest, k, k_rest, REST)
        if SHARED:
            v = k
        else:
            v = _rows(v_TGE, row, seen, value, 0, value, VALUE)
        p = tl.where(seen[None, :], tl.exp(score * scale - lse[:, None]), 0.0)
        dp = tl.dot(dout, tl.trans(v), input_precision="ieee")
        ds = (p * (dp - delta[:, None]) * scale).to(k.dtype)
        dq = tl.dot(ds, k, dq, input_precision="ieee")
        if REST:
            dq_rest = tl.dot(ds, k_rest, dq_rest, input_precision="ieee")
    _store(dq_QHD, query_head, inside, main + rest, 0, main, dq, MAIN)
    if REST:
        _store(dq_QHD, query_head, inside, main + rest, main, rest, dq_rest, REST)


@triton.jit(do_not_specialize=["first_query"])
def backward_rows(
    q_QHD, k_TGD, v_TGE, index_QK, dout_QHE, lse_QH, delta_QH, dk_BKGD, dv_BKGE, first_query,
    scale, num_heads, num_groups, num_picked, main, rest, value,
    HEADS: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr, VALUE: tl.constexpr, TILE: tl.constexpr,
    SHARED: tl.constexpr,
):  # fmt: skip
    """What query `first_query + pid 0` gives to its selected rows in tile `pid 1` of group `pid 2`, over all heads."""
    query, group = (first_query + tl.program_id(0)).to(tl.int64), tl.program_id(2)
    row, seen = _places(index_QK + query * num_picked, tl.program_id(1) * TILE, num_picked, num_groups, group, TILE)
    k, k_rest = _parts(k_TGD, row, seen, main, rest, MAIN, REST)
    dk = tl.zeros((TILE, MAIN), tl.float32)
    if REST:
        dk_rest = tl.zeros((TILE, REST), tl.float32)
    else:
        dk_rest = dk
    if SHARED:
        v, dv = k, dk
    else:
        v = _rows(v_TGE, row, seen, value, 0, value, VALUE)
        dv = tl.zeros((TILE, VALUE), tl.float32)
    for first in range(0, num_heads // num_groups, HEADS):
        head, inside = _heads(first, group, num_heads, num_groups, HEADS)
        query_head = query * num_heads + head
        q, q_rest = _parts(q_QHD, query_head, inside, main, rest, MAIN, REST)
        score = _products(q, q_rest, k, k_rest, REST)
        dout = _rows(dout_QHE, query_head, inside, value, 0, value, VALUE)
        lse = tl.load(lse_QH + query_head, mask=inside, other=0.0)
        delta = tl.load(delta_QH + query_head, mask=inside, other=0.0)
        p = tl.where(seen[None, :] & inside[:, None], tl.exp(score * scale - lse[:, None]), 0.0)
        dp = tl.dot(dout, tl.trans(v), input_precision="ieee")
        ds = (p * (dp - delta[:, None]) * scale).to(k.dtype)
        dk = tl.dot(tl.trans(ds), q, dk, input_precision="ieee")
        if REST:
            dk_rest = tl.dot(tl.trans(ds), q_rest, dk_rest, input_precision="ieee")
        if SHARED:
            dk = tl.dot(tl.trans(p.to(k.dtype)), dout, dk, input_precision="ieee")
        else:
            dv = tl.dot(tl.trans(p.to(k.dtype)), dout, dv, input_precision="ieee")
    slot = tl.program_id(1) * TILE + tl.arange(0, TILE)
    slot = (tl.program_id(0).to(tl.int64) * num_picked + slot) * num_groups + group
    _store(dk_BKGD, slot, seen, main + rest, 0, main, dk, MAIN)
    if REST:
        _store(dk_BKGD, slot, seen, main + rest, main, rest, dk_rest, REST)
    if not SHARED:
        _store(dv_BKGE, slot, seen, value, 0, value, dv, VALUE)


@triton.jit
def add_rows(target_TW, row_NW, place_N, order_N, num_rows, width, WIDTH: tl.constexpr):
    """target[place[n]] += row[order[n]] for sorted places; the program at the first of equal places adds them all."""
    entry = tl.program_id(0)
    place = tl.load(place_N + entry)
    previous = tl.load(place_N + entry - 1, mask=entry > 0, other=-1)
    if (place >= 0) & (place != previous):
        column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
        target = target_TW + place.to(tl.int64) * width + column
        total = tl.load(target, mask=column < width, other=0.0)
        following = place
        while following == place:
            source = tl.load(order_N + entry).to(tl.int64) * width
            total += tl.load(row_NW + source + column, mask=column < width, other=0.0)
            entry += 1
            following = tl.load(place_N + entry, mask=entry < num_rows, other=-1)
        tl.store(target, total, mask=column < width)


@triton.jit
def _heads(first, group, num_heads, num_groups, HEADS: tl.constexpr):
    """Heads `first ..` of a group, and which of them there are."""
    lane = first + tl.arange(0, HEADS)
    return group * (num_heads // num_groups) + lane, lane < num_heads // num_groups


@triton.jit
def _end(index_K, num_picked, PICKED: tl.constexpr):
    """Number of entries up to the last that is not -1."""
    lane = tl.arange(0, PICKED)
    place = tl.load(index_K + lane, mask=lane < num_picked, other=-1)
    return tl.max(tl.where(place >= 0, lane + 1, 0), axis=0)


@triton.jit
def _places(index_K, first, num_picked, num_groups, group, TILE: tl.constexpr):
    """Rows of the group's keys at entries `first ..`, and which of them there are."""
    lane = first + tl.arange(0, TILE)
    place = tl.load(index_K + lane, mask=lane < num_picked, other=-1)
    return place.to(tl.int64) * num_groups + group, place >= 0


@triton.jit
def _parts(source, row, inside, main, rest, MAIN: tl.constexpr, REST: tl.constexpr):
    """Both parts of some rows; without a rest, the main part twice."""
    first = _rows(source, row, inside, main + rest, 0, main, MAIN)
    if REST:
        second = _rows(source, row, inside, main + rest, main, rest, REST)
    else:
        second = first
    return first, second


@triton.jit
def _products(q, q_rest, k, k_rest, REST: tl.constexpr):
    """Products of queries with keys over both parts of their width."""
    score = tl.dot(q, tl.trans(k), input_precision="ieee")
    if REST:
        score = tl.dot(q_rest, tl.trans(k_rest), score, input_precision="ieee")
    return score


@triton.jit
def _rows(source, row, inside, stride, offset, width, SIDE: tl.constexpr):
    """Numbers `offset .. offset + width` of some rows, zeros around them."""
    column = tl.arange(0, SIDE)
    mask = inside[:, None] & (column < width)[None, :]
    return tl.load(source + row[:, None] * stride + offset + column[None, :], mask=mask, other=0.0)


@triton.jit
def _store(target, row, inside, stride, offset, width, value, SIDE: tl.constexpr):
    column = tl.arange(0, SIDE)
    mask = inside[:, None] & (column < width)[None, :]
    tl.store(target + row[:, None] * stride + offset + column[None, :], value, mask=mask)
