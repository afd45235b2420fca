"""Two-level selection compiled with numba, for CPUs; the loops are those of `godwit.ops.index_topk`."""

import torch
from torch import Tensor

from godwit.ops._threads import match_threads
from godwit.ops.context import AttnContext
from godwit.ops.index_topk import compiled as exact
from godwit.ops.index_topk._rows import rows
from godwit.ops.index_two_level.reference import pooled

# The width the loops are compiled for, HISA's own: at 64 they ran at two thirds of the speed.
BLOCK = 128


def why_not(q_QHD: Tensor, *_args, block: int, **_kwargs) -> str | None:
    """As the exact selection, with blocks of the width whose loops are compiled."""
    if block != BLOCK:
        return f"blocks of {block} have no compiled loops; those of {BLOCK} have"
    return exact.why_not(q_QHD)


def run(
    q_QHD: Tensor,
    k_TD: Tensor,
    w_QH: Tensor,
    context: AttnContext,
    *,
    topk: int,
    block: int,
    num_blocks: int,
    query_seqlens: tuple[int, ...] | None = None,
) -> Tensor:
    """See `godwit.ops.index_two_level.index_two_level`."""
    index_QK = torch.empty(q_QHD.shape[0], min(topk, context.max_seqlen), dtype=torch.int32)
    q, w, index = exact.pad_queries(q_QHD).numpy(), exact.pad_weights(w_QH).numpy(), index_QK.numpy()
    # numba takes a second to import; only those who select pay for it.
    from godwit.ops.index_topk._scores import PANEL
    from godwit.ops.index_two_level._kernel import select

    threads = match_threads()
    for part in rows(context, query_seqlens):
        mine, k_LD = slice(part.first, part.last), k_TD[part.start : part.end]
        panels = exact.in_panels(k_LD, PANEL).numpy()
        mean_panels = exact.in_panels(pooled(k_LD, block), PANEL).numpy()
        select(threads, q[mine], w[mine], panels, mean_panels, num_blocks, part.num_before, part.start, index[mine])
    return index_QK
