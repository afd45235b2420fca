"""Selection for a few queries compiled with numba, for decoding on CPUs: no key is copied, no score is stored."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from godwit.ops._padded import padded
from godwit.ops._threads import match_threads
from godwit.ops.context import AttnContext
from godwit.ops.index_topk import compiled as flat
from godwit.ops.index_topk_paged import tile_width

# Queries of one call. From here on laying the keys flat, once for all of them, is small beside scoring.
FEW = 16
# Keys a run has at least: waking a thread takes about as long as scoring 500 of 4 x 32.
RUN = 1024


def why_not(q_QHD: Tensor, tiles_MBW: Tensor, *_args, **_kwargs) -> str | None:
    """Few queries, float32 (or half, which is widened) on a CPU, tiles of the width the loops are compiled for."""
    if tiles_MBW.device.type == "cpu" and (tiles_MBW.dtype != torch.float32 or tiles_MBW.shape[2] != tile_width()):
        return f"tiles of {tiles_MBW.shape[2]} {tiles_MBW.dtype} are not the loops' {tile_width()} torch.float32"
    if q_QHD.shape[0] > FEW:
        return f"more than {FEW} queries: laying the keys flat once for all of them is cheap"
    return flat.why_not(q_QHD)


def run(
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
    """See `godwit.ops.index_topk_paged.index_topk_paged`."""
    rows_QK = torch.empty(q_QHD.shape[0], min(topk, context.max_seqlen), dtype=torch.int32)
    table = np.zeros((len(tables), max((len(pages) for pages in tables), default=0)), np.int32)
    document, visible = [], []
    for number, (pages, length, new) in enumerate(zip(tables, context.seqlens, query_seqlens, strict=True)):
        table[number, : len(pages)] = pages.numpy()
        document += [number] * new
        visible += range(length - new + 1, length + 1)
    # As wide as the tiles, whose zeros change no score.
    q_QHB = padded(q_QHD, (0, tiles_MBW.shape[1] - q_QHD.shape[2]))
    q, w = flat.pad_queries(q_QHB).numpy(), flat.pad_weights(w_QH).numpy()
    # numba takes a second to import; only those who select pay for it.
    from godwit.ops.index_topk_paged._kernel import select

    match_threads()
    places = table, np.array(document, np.int64), np.array(visible, np.int64)
    select(q, w, tiles_MBW.numpy(), page, *places, num_runs(max(visible, default=0)), rows_QK.numpy())
    return rows_QK


def num_runs(visible: int) -> int:
    """Into how many runs the tiles of a query that sees so much are divided: at most one a thread."""
    return max(1, min(torch.get_num_threads(), visible // RUN))
