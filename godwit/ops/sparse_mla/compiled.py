"""Absorbed attention compiled with numba, for inference on CPUs: reads each selected row once for all heads."""

import torch
import torch.nn.functional as F
from torch import Tensor

from godwit.ops._threads import match_threads
from godwit.ops.sparse_mla import LatentAttended


def why_not(q_QHW: Tensor, c_TW: Tensor, index_QK: Tensor, *, scale: float, latent_width: int) -> str | None:
    """float32 (or half, which is widened) on a CPU, and no gradient asked for."""
    if q_QHW.device.type != "cpu":
        return f"device {q_QHW.device.type} is no CPU"
    if torch.promote_types(q_QHW.dtype, torch.float32) != torch.float32:
        return f"dtype {q_QHW.dtype} is wider than float32"
    if torch.is_grad_enabled() and (q_QHW.requires_grad or c_TW.requires_grad):
        return "it has no backward pass"
    return None


def run(q_QHW: Tensor, c_TW: Tensor, index_QK: Tensor, *, scale: float, latent_width: int) -> LatentAttended:
    """See `godwit.ops.sparse_mla.sparse_mla`."""
    # numba takes a second to import; only those who attend pay for it.
    from godwit.ops.sparse_mla._kernel import attend
    from godwit.ops.sparse_mla._products import COLUMNS, HEADS

    num_queries, num_heads, width = q_QHW.shape
    # Whole blocks of registers, as the loops take them; zeros cost time and change nothing.
    q_padded = F.pad(q_QHW.detach().float() * scale, (0, -width % COLUMNS, 0, -num_heads % HEADS)).contiguous()
    rows = F.pad(c_TW.detach().float(), (0, -width % COLUMNS)).contiguous()
    out_QHC = torch.empty(num_queries, q_padded.shape[1], latent_width + -latent_width % COLUMNS)
    lse_QH = torch.empty(num_queries, q_padded.shape[1])
    match_threads()
    attend(q_padded.numpy(), rows.numpy(), index_QK.int().contiguous().numpy(), out_QHC.numpy(), lse_QH.numpy())
    return LatentAttended(out_QHC[:, :num_heads, :latent_width].to(q_QHW.dtype), lse_QH[:, :num_heads])
