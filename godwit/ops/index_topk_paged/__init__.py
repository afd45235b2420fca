"""`godwit.ops.index_topk` over keys that lie in the pages of a cache: same scores and ties, rows for positions.

A page is `page` consecutive rows of the pool and holds so many consecutive tokens of one document, whose table lists
its pages: position s is row `table[s // page] * page + s % page`. The key of row r is `tiles[r // W, :, r % W]`: W keys
side by side, as the compiled loops read them. Entry j of the result is the row of entry j of what `index_topk` selects
(position ascending, then -1).

Letters: Q queries, H index heads, D index width, N rows of the pool, W keys of a tile (divides a page),
M = N / W tiles, B = D in eights (zeros behind D), K = min(topk, longest document).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.ops._finite import all_finite
from godwit.ops._threads import match_threads
from godwit.ops.backends import Op
from godwit.ops.context import AttnContext

_OP = Op(__name__, order=("compiled", "reference"))


@torch.no_grad()
def index_topk_paged(
    q_QHD: Tensor,
    tiles_MBW: Tensor,
    w_QH: Tensor,
    context: AttnContext,
    tables: Sequence[Tensor],
    *,
    page: int,
    topk: int,
    query_seqlens: tuple[int, ...],
) -> Tensor:
    """Selected rows of the pool, int32 `(Q, K)`. Queries are the last `query_seqlens` tokens of each document.

    Args:
        context: the documents' whole lengths.
        tables: each document's pages, int64.
        page: tokens of a page.

    Raises:
        GodwitError: for tables that do not fit the documents, NaN in queries or weights (on a CPU).
    """
    if [-(-length // page) for length in context.seqlens] != [table.shape[0] for table in tables]:
        raise GodwitError(
            f"documents of {context.seqlens[:8]} tokens do not fit tables of {[len(t) for t in tables][:8]} "
            f"pages of {page}"
        )
    # Keys were looked at when they were stored; to read them all for every token would cost as much as scoring them.
    if q_QHD.device.type == "cpu" and not all_finite(q_QHD, w_QH):
        raise GodwitError("index queries or weights hold NaN or Inf: damaged weights, or training diverged")
    return _OP(q_QHD, tiles_MBW, w_QH, context, tables, page=page, topk=topk, query_seqlens=query_seqlens)


def tile_width() -> int:
    """W: what the compiled loops take, whatever else a pool is read by."""
    # numba takes a second to import; only those who make a cache with index keys pay for it.
    from godwit.ops.index_topk._kernel import PANEL

    return PANEL


def rows_of(index_QK: Tensor, context: AttnContext, tables: Sequence[Tensor], *, page: int) -> Tensor:
    """Rows of the pool, int32, for flat positions, -1 for -1; on a CPU in the memory of `index_QK`."""
    within = torch.arange(page, device=index_QK.device)
    parts = zip(tables, context.seqlens, strict=True)
    row_L = torch.cat([(table.unsqueeze(1) * page + within).flatten()[:length] for table, length in parts]).int()
    if index_QK.device.type == "cpu":
        # One pass: torch makes five over what is the largest tensor of a long prefill, a fifth of its time at K 2,048.
        from godwit.ops.index_topk_paged._look_up import look_up

        match_threads()
        look_up(row_L.numpy(), index_QK.numpy())
        return index_QK
    found_QK = row_L[index_QK.clamp(min=0)]
    return found_QK.masked_fill_(index_QK < 0, -1)
