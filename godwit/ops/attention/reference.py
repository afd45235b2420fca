"""The definition: scores, mask, softmax in float32 (or wider), one document at a time."""

import torch
from torch import Tensor

from godwit.ops.context import AttnContext
from godwit.ops.index_topk._rows import rows


def why_not(*_args, **_kwargs) -> None:
    """The reference takes everything."""


def run(
    q_QHD: Tensor,
    k_TGD: Tensor,
    v_TGE: Tensor,
    context: AttnContext,
    *,
    scale: float,
    query_seqlens: tuple[int, ...] | None = None,
) -> Tensor:
    """See `godwit.ops.attention.attention`."""
    repeat = q_QHD.shape[1] // k_TGD.shape[1]
    wide = torch.promote_types(q_QHD.dtype, torch.float32)
    outputs = [q_QHD.new_empty(0, q_QHD.shape[1], v_TGE.shape[2])]
    for part in rows(context, query_seqlens):
        q_MHD = q_QHD[part.first : part.last].to(wide)
        k_LHD = k_TGD[part.start : part.end].to(wide).repeat_interleave(repeat, dim=1)
        v_LHE = v_TGE[part.start : part.end].to(wide).repeat_interleave(repeat, dim=1)
        score_HML = torch.einsum("qhd,khd->hqk", q_MHD, k_LHD) * scale
        future_ML = torch.ones(score_HML.shape[1:], dtype=torch.bool, device=q_QHD.device).triu(part.num_before + 1)
        p_HML = score_HML.masked_fill(future_ML, float("-inf")).softmax(dim=-1)
        outputs.append(torch.einsum("hqk,khe->qhe", p_HML, v_LHE).to(q_QHD.dtype))
    return torch.cat(outputs)
