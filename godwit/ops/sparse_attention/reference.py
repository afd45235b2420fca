"""The definition: gather the selected keys and values, softmax over them; in blocks of queries to bound memory."""

import torch
from torch import Tensor

from godwit.ops.context import AttnContext
from godwit.ops.sparse_attention import Attended

QUERY_BLOCK = 256


def why_not(*_args, **_kwargs) -> None:
    """The reference takes everything."""


def run(
    q_THD: Tensor,
    k_TGD: Tensor,
    v_TGE: Tensor,
    index_TK: Tensor,
    context: AttnContext,
    *,
    scale: float,
    with_lse: bool = False,
) -> Attended:
    """See `godwit.ops.sparse_attention.sparse_attention`."""
    repeat = q_THD.shape[1] // k_TGD.shape[1]
    wide = torch.promote_types(q_THD.dtype, torch.float32)
    outputs = [q_THD.new_empty(0, q_THD.shape[1], v_TGE.shape[2])]
    sums = [q_THD.new_empty(0, q_THD.shape[1], dtype=wide)]
    for start in range(0, q_THD.shape[0], QUERY_BLOCK):
        q_QHD = q_THD[start : start + QUERY_BLOCK].to(wide)
        index_QK = index_TK[start : start + QUERY_BLOCK].long()
        rows_QK = index_QK.clamp(min=0)
        k_QKHD = k_TGD[rows_QK].to(wide).repeat_interleave(repeat, dim=2)
        v_QKHE = v_TGE[rows_QK].to(wide).repeat_interleave(repeat, dim=2)
        score_QHK = torch.einsum("qhd,qkhd->qhk", q_QHD, k_QKHD) * scale
        score_QHK = score_QHK.masked_fill((index_QK < 0).unsqueeze(1), float("-inf"))
        p_QHK = score_QHK.softmax(dim=-1)
        sums.append(score_QHK.logsumexp(dim=-1))
        outputs.append(torch.einsum("qhk,qkhe->qhe", p_QHK, v_QKHE).to(q_THD.dtype))
    return Attended(torch.cat(outputs), torch.cat(sums) if with_lse else None)
