"""Attention over selected positions compiled with numba, forward and backward, for long documents on CPUs.

Reads and writes only what was selected, so work and memory grow with T K. The backward pass recomputes the weights
from the log-sum-exp, some queries at a time and head by head: first all queries in parallel, which leave their
weights and take their gradient; then all positions in parallel, each adding up in order what its queries left. So
gradients have the same bits in every run, with any number of threads.
"""

import numpy as np
import torch
from torch import Tensor

from godwit.ops._array import array
from godwit.ops._inverse import invert
from godwit.ops._threads import match_threads
from godwit.ops.context import AttnContext
from godwit.ops.sparse_attention import Attended

# Weights of this many (query, position) pairs of a key-value head exist at one time: 1 MB, which stays in the cache.
# More queries at once read slower, fewer visit every position too often (8,192 tokens, 4 heads of 64, K 256, one core:
# 0.94 s with 256 queries, 0.86 with 1,024, 1.48 with 8,192).
CHUNK_NUMBERS = 1 << 18
MIN_CHUNK = 256


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
    """float32 (or half, which is widened) on a CPU."""
    if q_THD.device.type != "cpu":
        return f"device {q_THD.device.type} is no CPU"
    if torch.promote_types(q_THD.dtype, torch.float32) != torch.float32:
        return f"dtype {q_THD.dtype} is wider than float32"
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
    out_THE, lse_TH = _Attend.apply(q_THD.float(), k_TGD.float(), v_TGE.float(), index_TK, scale)
    return Attended(out_THE.to(q_THD.dtype), lse_TH if with_lse else None)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q_THD, k_TGD, v_TGE, index_TK, scale):  # noqa: ANN001 (torch calls it)
        out_THE = q_THD.new_empty(*q_THD.shape[:2], v_TGE.shape[2])
        lse_TH = q_THD.new_empty(q_THD.shape[:2])
        inputs = [array(x) for x in (q_THD, k_TGD.transpose(0, 1), v_TGE.transpose(0, 1), index_TK.int())]
        arguments = (*inputs, np.float32(scale), out_THE.numpy(), lse_TH.numpy())
        threads, kernel = _started()
        kernel.forward(threads, *arguments)
        ctx.save_for_backward(q_THD, k_TGD, v_TGE, index_TK, out_THE, lse_TH)
        ctx.scale = scale
        return out_THE, lse_TH

    @staticmethod
    def backward(ctx, dout_THE, dlse_TH):  # noqa: ANN001  # pyrefly: ignore[bad-override]
        q_THD, k_TGD, v_TGE, index_TK, out_THE, lse_TH = ctx.saved_tensors
        # d lse / d score is p: it joins the term that all of a row's scores share.
        delta_TH = (dout_THE * out_THE).sum(dim=-1) - dlse_TH
        q, dout, lse, delta, k, v = (
            array(x.transpose(0, 1)) for x in (q_THD, dout_THE, lse_TH, delta_TH, k_TGD, v_TGE)
        )
        dq_HTD, dk_GTD, dv_GTE = (torch.zeros(x.shape) for x in (q, k, v))
        dq, dk, dv = (x.numpy() for x in (dq_HTD, dk_GTD, dv_GTE))
        index, scale = array(index_TK.int()), np.float32(ctx.scale)
        threads, kernel = _started()
        repeat, width = len(q) // len(k), index.shape[1]
        chunk = max(MIN_CHUNK, CHUNK_NUMBERS // (repeat * width))
        p, ds = (np.empty((repeat, min(chunk, len(index)), width), np.float32) for _ in range(2))
        for start in range(0, len(index), chunk):
            rows = index[start : start + chunk]
            by_position = invert(rows, len(index))
            for g in range(len(k)):
                mine = slice(g * repeat, (g + 1) * repeat)
                of_head = (threads, start, q[mine], dout[mine])
                kernel.query_gradients(*of_head, k[g], v[g], rows, lse[mine], delta[mine], scale, p, ds, dq[mine])
                kernel.key_gradients(*of_head, p, ds, *by_position, dk[g], dv[g])
        return dq_HTD.transpose(0, 1), dk_GTD.transpose(0, 1), dv_GTE.transpose(0, 1), None, None


def _started():
    """How many threads there are, and the loops."""
    # numba takes a second to import; only those who attend this way pay for it.
    from godwit.ops.sparse_attention import _kernel

    return match_threads(), _kernel
