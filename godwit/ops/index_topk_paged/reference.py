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
    tiles_PCBW = tiles_MBW.unflatten(0, (-1, page // tiles_MBW.shape[2]))
    parts = [
        tiles_PCBW[table].transpose(2, 3).flatten(0, 2)[:length, : q_QHD.shape[2]]
        for table, length in zip(tables, context.seqlens, strict=True)
    ]
    k_TD = torch.cat(parts).to(q_QHD.dtype)
    index_QK = index_topk(q_QHD, k_TD, w_QH, context, topk=topk, query_seqlens=query_seqlens)
    return rows_of(index_QK, context, tables, page=page)
