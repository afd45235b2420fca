"""Dense fused attention under the selection's mask, one block of queries against the keys up to its end.

Work still grows with the square of the document (halved by the blocks), so this pays while documents are a few
times longer than K; the kernels that only touch what was selected take over beyond that: on CPUs from 4 K on, where
forward and backward take the same time (4 heads of 64, K 256, 1,024 tokens: 0.044 s on one core both; at 8,192 tokens
2.6 s here and 0.74 s compiled).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from godwit.ops._mask import as_mask
from godwit.ops._padded import padded
from godwit.ops.context import AttnContext
from godwit.ops.sparse_attention import Attended, compiled

QUERY_BLOCK = 256
MAX_SEQLEN = 16_384
CPU_CROSSOVER = 4


def why_not(
    q_THD: Tensor,
    k_TGD: Tensor,
    v_TGE: Tensor,
    index_TK: Tensor,
    context: AttnContext,
    *,
    scale: float,
    with_lse: bool = False,
) -> str | None:
    """Not for values wider than keys, nor where the mask would cost more than gathering, nor for the log-sum-exp."""
    if with_lse:
        return "the fused attention does not give its log-sum-exp"
    if v_TGE.shape[2] > q_THD.shape[2]:
        return f"value width {v_TGE.shape[2]} is larger than key width {q_THD.shape[2]}"
    limit = MAX_SEQLEN
    if compiled.why_not(q_THD, k_TGD, v_TGE, index_TK, context, scale=scale) is None:
        limit = CPU_CROSSOVER * index_TK.shape[1]
    if context.max_seqlen > limit:
        return f"documents of more than {limit} tokens are cheaper to gather"
    return None


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
    width = v_TGE.shape[2]
    v_TGD = padded(v_TGE, (0, q_THD.shape[2] - width))
    outputs = [q_THD.new_empty(0, *q_THD.shape[1:])]
    for start, end in context.bounds:
        for first in range(start, end, QUERY_BLOCK):
            last = min(first + QUERY_BLOCK, end)
            allowed_QL = as_mask(index_TK[first:last].long() - start, last - start)
            out_HQD = F.scaled_dot_product_attention(
                q_THD[first:last].transpose(0, 1).unsqueeze(0),
                k_TGD[start:last].transpose(0, 1).unsqueeze(0),
                v_TGD[start:last].transpose(0, 1).unsqueeze(0),
                attn_mask=allowed_QL,
                scale=scale,
                enable_gqa=q_THD.shape[1] != k_TGD.shape[1],
            )
            outputs.append(out_HQD.squeeze(0).transpose(0, 1))
    return Attended(torch.cat(outputs)[..., :width], None)
