"""The loss over selected positions compiled with numba, for CPUs, with the gradients taken at once.

Looks only at what was selected: work grows with T K, memory with T. Over all visible positions `chunked` is the
better way, since there every key meets every query and the products are plain matrix products. Values and gradients
have the same bits in every run, with any number of threads.
"""

import numpy as np
import torch
from torch import Tensor

from godwit.ops._array import array
from godwit.ops._padded import padded
from godwit.ops._threads import match_threads
from godwit.ops.context import AttnContext
from godwit.ops.indexer_kl import Form, IndexerKL, Teacher
from godwit.ops.indexer_kl._parts import scaled

# Gradients of this many (query, index head, position) exist at one time: 4 MB; of so many queries at least, that all
# cores have some.
CHUNK_NUMBERS = 1 << 20
MIN_CHUNK = 64


def why_not(
    teachers: tuple[Teacher, ...],
    q_THA: Tensor,
    k_TA: Tensor,
    w_TH: Tensor,
    context: AttnContext,
    *,
    index_TK: Tensor | None,
    form: Form,
    measure_TK: Tensor | None,
) -> str | None:
    """Selected positions, float32 (or half, which is widened), on a CPU."""
    if index_TK is None:
        return "over all positions there is nothing to gather"
    if q_THA.device.type != "cpu":
        return f"device {q_THA.device.type} is no CPU"
    wide = [x.dtype for x in (q_THA, k_TA, w_TH, *(teacher.q_TNE for teacher in teachers))]
    if any(torch.promote_types(dtype, torch.float32) != torch.float32 for dtype in wide):
        return "float64 is wider than float32"
    return None


def run(
    teachers: tuple[Teacher, ...],
    q_THA: Tensor,
    k_TA: Tensor,
    w_TH: Tensor,
    context: AttnContext,
    *,
    index_TK: Tensor,
    form: Form,
    measure_TK: Tensor | None,
) -> IndexerKL:
    """See `godwit.ops.indexer_kl.indexer_kl`."""
    assert measure_TK is None, "mass is measured against all visible positions"
    loss, kl_T = _Loss.apply(q_THA, k_TA, w_TH, teachers, index_TK, form)
    return IndexerKL(loss, kl_T, None)


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q_THA, k_TA, w_TH, teachers, index_TK, form):  # noqa: ANN001 (torch calls it)
        # numba takes a second to import; only those who learn this way pay for it.
        from godwit.ops.indexer_kl import _kernel as kernel

        threads = match_threads()
        gradients = any(ctx.needs_input_grad)
        (num_tokens, num_heads, width), num_columns = q_THA.shape, index_TK.shape[1]
        # An even number of heads and whole blocks of columns; zeros change no score.
        pad = (0, -width % kernel.COLUMNS, 0, num_heads % 2)
        q, k = array(padded(q_THA.float(), pad)), array(padded(k_TA.float(), pad[:2]))
        w, index = array(padded(w_TH.float(), pad[2:])), array(index_TK.int())
        learned = [
            (array(each.q_TNE.float()), array(each.k_TGE.transpose(0, 1).float()), each.scale) for each in teachers
        ]
        kl, dq, dw = np.zeros(num_tokens, np.float64), np.zeros_like(q), np.zeros_like(w)
        dk = np.zeros((q.shape[2] // kernel.COLUMNS, num_tokens, kernel.COLUMNS), np.float32)
        chunk = max(MIN_CHUNK, CHUNK_NUMBERS // (q.shape[1] * num_columns))
        left = np.empty((min(chunk, num_tokens), q.shape[1], num_columns), np.float32)
        for start in range(0, num_tokens, chunk):
            rows = slice(start, start + chunk)
            target = np.zeros((len(index[rows]), num_columns), np.float32)
            for teacher_q, teacher_k, scale in learned:
                arguments = (teacher_q[rows], teacher_k, index[rows], np.float32(scale), target, kl[rows])
                kernel.add_attention(threads, *arguments, form == "multi")
            target /= len(learned)
            kl[rows] /= len(learned)
            if form == "mean":
                kl[rows] = np.where(target > 0, target * np.log(np.maximum(target, 1e-38)), 0).sum(1, dtype=np.float64)
            kernel.learn(q[rows], k, w[rows], index[rows], target, kl[rows], left, dq[rows], dw[rows], gradients)
            if gradients:
                kernel.add_to_keys(q[rows], index[rows], left, dk)
        whole = dq[:, :num_heads, :width], dk.transpose(1, 0, 2).reshape(num_tokens, -1)[:, :width], dw[:, :num_heads]
        if gradients:
            ctx.save_for_backward(*(torch.tensor(x).to(y.dtype) for x, y in zip(whole, (q_THA, k_TA, w_TH))))
        kl_T = torch.from_numpy(kl).float()
        ctx.mark_non_differentiable(kl_T)
        return kl_T.sum(), kl_T

    @staticmethod
    def backward(ctx, *grad_outputs):  # noqa: ANN001
        return *scaled(ctx.saved_tensors, grad_outputs[0]), None, None, None
