"""PyTorch's fused attention: one call when all documents are equally long, else one call a document.

Values narrower than keys are padded to the key width: without that PyTorch falls back to a path that stores the
whole score matrix (measured 3x slower on CPU at 2,048 tokens).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from godwit.ops._padded import padded
from godwit.ops.context import AttnContext
from godwit.ops.index_topk._rows import rows

# Queries at a time where a mask is needed: a chunk of a document against all of it.
QUERY_BLOCK = 512


def why_not(
    q_QHD: Tensor,
    k_TGD: Tensor,
    v_TGE: Tensor,
    context: AttnContext,
    *,
    scale: float,
    query_seqlens: tuple[int, ...] | None = None,
) -> str | None:
    """Values wider than keys have no fused path."""
    if v_TGE.shape[2] > q_QHD.shape[2]:
        return f"value width {v_TGE.shape[2]} is larger than key width {q_QHD.shape[2]}"
    return None


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
    width = v_TGE.shape[2]
    v_TGD = padded(v_TGE, (0, q_QHD.shape[2] - width))
    parts = rows(context, query_seqlens)
    if parts and context.uniform and q_QHD.shape[0] == k_TGD.shape[0]:
        batch = [tensor.unflatten(0, (len(parts), -1)) for tensor in (q_QHD, k_TGD, v_TGD)]
        return _causal(*batch, num_before=0, scale=scale).flatten(0, 1)[..., :width]
    outputs = [q_QHD.new_empty(0, *q_QHD.shape[1:])]
    for part in parts:
        block = part.last - part.first if part.num_before == 0 else QUERY_BLOCK
        for first in range(part.first, part.last, block):
            last = min(first + block, part.last)
            before = part.num_before + first - part.first
            end = part.start + before + last - first
            batch = [q_QHD[first:last], k_TGD[part.start : end], v_TGD[part.start : end]]
            out_BLHD = _causal(*(tensor.unsqueeze(0) for tensor in batch), num_before=before, scale=scale)
            outputs.append(out_BLHD.squeeze(0))
    return torch.cat(outputs)[..., :width]


def _causal(q_BLHD: Tensor, k_BMGD: Tensor, v_BMGD: Tensor, *, num_before: int, scale: float) -> Tensor:
    """Queries are the last tokens of their rows, `num_before` tokens of which come before the first query."""
    mask_LM = None
    if num_before:
        shape = q_BLHD.shape[1], k_BMGD.shape[1]
        mask_LM = torch.ones(shape, dtype=torch.bool, device=q_BLHD.device).tril(num_before)
    out_BHLD = F.scaled_dot_product_attention(
        q_BLHD.transpose(1, 2),
        k_BMGD.transpose(1, 2),
        v_BMGD.transpose(1, 2),
        attn_mask=mask_LM,
        is_causal=mask_LM is None,
        scale=scale,
        enable_gqa=q_BLHD.shape[2] != k_BMGD.shape[2],
    )
    return out_BHLD.transpose(1, 2)
