"""Absorbed attention compiled with numba, on CPUs, forward and backward: reads each selected row once for all heads.

The backward pass recomputes the weights from the log-sum-exp, for some queries at a time, so that memory stays linear
in the tokens; its gradients have the same bits in every run, with any number of threads (see `_backward_kernel`).
"""

import numpy as np
import torch
from torch import Tensor

from godwit.ops._array import array
from godwit.ops._padded import padded
from godwit.ops._threads import match_threads
from godwit.ops.sparse_mla import LatentAttended

# Weights of this many (query, head, position) exist at one time in the backward pass, half a MB that stays in the
# cache, but of so many queries at least, that all cores have some.
CHUNK_NUMBERS = 1 << 16
MIN_CHUNK = 16


def why_not(q_QHW: Tensor, c_TW: Tensor, index_QK: Tensor, *, scale: float, latent_width: int) -> str | None:
    """float32 (or half, which is widened) on a CPU."""
    if q_QHW.device.type != "cpu":
        return f"device {q_QHW.device.type} is no CPU"
    if torch.promote_types(q_QHW.dtype, torch.float32) != torch.float32:
        return f"dtype {q_QHW.dtype} is wider than float32"
    return None


def run(q_QHW: Tensor, c_TW: Tensor, index_QK: Tensor, *, scale: float, latent_width: int) -> LatentAttended:
    """See `godwit.ops.sparse_mla.sparse_mla`."""
    # numba takes a second to import; only those who attend pay for it.
    from godwit.ops.sparse_mla._products import COLUMNS, group_of

    num_heads, width = q_QHW.shape[1:]
    # Whole blocks of registers, as the loops take them; zeros cost time and change nothing.
    q_padded_QHX = padded(q_QHW.float() * scale, (0, -width % COLUMNS, 0, -num_heads % len(group_of(num_heads))))
    # Rows may be a pool for many sequences, of which few are read.
    c_TX = c_TW.float()
    if width % COLUMNS and index_QK.numel():
        c_TX = padded(c_TX[: int(index_QK.max()) + 1], (0, -width % COLUMNS))
    out_QHX, lse_QH = _Attend.apply(q_padded_QHX, c_TX, index_QK.int(), latent_width + -latent_width % COLUMNS)
    return LatentAttended(out_QHX[:, :num_heads, :latent_width].to(q_QHW.dtype), lse_QH[:, :num_heads])


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q_QHW, c_TW, index_QK, latent_width):  # noqa: ANN001 (torch calls it)
        out_QHC = torch.empty(*q_QHW.shape[:2], latent_width)
        lse_QH = torch.empty(q_QHW.shape[:2])
        from godwit.ops.sparse_mla._kernel import attend, queries_at_once
        from godwit.ops.sparse_mla._products import group_of

        threads = match_threads()
        num_queries, num_heads, width = q_QHW.shape
        block = queries_at_once(num_queries, num_heads, width, threads)
        q, c, index = map(array, (q_QHW, c_TW, index_QK))
        attend(threads, q, c, index, out_QHC.numpy(), lse_QH.numpy(), block, group_of(num_heads))
        ctx.save_for_backward(q_QHW, c_TW, index_QK, out_QHC, lse_QH)
        return out_QHC, lse_QH

    @staticmethod
    def backward(ctx, dout_QHC, dlse_QH):  # noqa: ANN001  # pyrefly: ignore[bad-override]
        from godwit.ops.sparse_mla import _backward_kernel as kernel

        threads = match_threads()
        q_QHW, c_TW, index_QK, out_QHC, lse_QH = ctx.saved_tensors
        # d lse / d score is p: it joins the term that all of a row's scores share.
        delta_QH = (dout_QHC * out_QHC).sum(dim=-1) - dlse_QH
        # Heads in fours, as the loops take them.
        own_heads = q_QHW.shape[1]
        more = -own_heads % 4
        q_QHW, dout_QHC = (padded(x, (0, 0, 0, more)) for x in (q_QHW, dout_QHC))
        delta, lse = (array(padded(x, (0, more))) for x in (delta_QH, lse_QH))
        # Columns in whole blocks; output gradients as wide as queries, so that both are cut alike.
        width = c_TW.shape[1]
        whole = width + -width % kernel.COLUMNS
        q, c, dout, index = map(array, (q_QHW, c_TW, dout_QHC, index_QK))
        wide_q, wide_dout = (array(padded(x, (0, whole - x.shape[2]))) for x in (q_QHW, dout_QHC))
        dq_QHW, dc_BTX = torch.empty(q_QHW.shape), torch.zeros(whole // kernel.COLUMNS, len(c), kernel.COLUMNS)
        num_heads, num_columns = q.shape[1], index.shape[1] + kernel.PAD
        chunk = max(MIN_CHUNK, CHUNK_NUMBERS // (num_heads * num_columns))
        p, ds = (np.empty((min(chunk, len(q)), num_heads, num_columns), np.float32) for _ in range(2))
        dq, dc = dq_QHW.numpy(), dc_BTX.numpy()
        for start in range(0, len(q), chunk):
            rows = slice(start, start + chunk)
            own = q[rows], c, index[rows], dout[rows], lse[rows], delta[rows]
            kernel.query_gradients(threads, *own, p, ds, dq[rows])
            kernel.row_gradients(wide_q[rows], wide_dout[rows], index[rows], p, ds, dc)
        return dq_QHW[:, :own_heads], dc_BTX.transpose(0, 1).flatten(1)[:, :width], None, None
