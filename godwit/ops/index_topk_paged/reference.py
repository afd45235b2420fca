"""The definition: lay the keys flat again, select with `index_topk`, look the rows up. Right for prefill in chunks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from godwit.ops.context import AttnContext
from godwit.ops.index_topk import index_topk
from godwit.ops.index_topk_paged import rows_of


def why_not(*_args, **_kwargs) -> None:
    """The reference takes everything."""


def run(
    q_QHD: Tensor,
    tiles_PBW: Tensor,
    w_QH: Tensor,
    context: AttnContext,
    tables: Sequence[Tensor],
    *,
    topk: int,
    query_seqlens: tuple[int, ...],
) -> Tensor:
    """See `godwit.ops.index_topk_paged.index_topk_paged`."""
    parts = [
        tiles_PBW[table].transpose(1, 2).flatten(0, 1)[:length, : q_QHD.shape[2]]
        for table, length in zip(tables, context.seqlens, strict=True)
    ]
    k_TD = torch.cat(parts).to(q_QHD.dtype)
    index_QK = index_topk(q_QHD, k_TD, w_QH, context, topk=topk, query_seqlens=query_seqlens)
    return rows_of(index_QK, context, tables, width=tiles_PBW.shape[2], query_seqlens=query_seqlens)
