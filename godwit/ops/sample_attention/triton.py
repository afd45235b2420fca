"""Stripes and window on GPUs with Triton, for prefill: one program for a block of rows of one head.

There is no fused backward pass: it recomputes by the matrix products of `blocked`, head by head, and is slow on a GPU.
"""

import torch
from torch import Tensor

from godwit.ops import _gpu
from godwit.ops.context import AttnContext
from godwit.ops.sample_attention import blocked
from godwit.ops.sample_attention._stripes import Stripes

ROWS, ROWS_FLOAT32 = 128, 32
TILE = 64
# Rows, keys and values of more would not fit the shared memory.
MAX_WIDTH = 256


def why_not(
    q_THD: Tensor, k_TGD: Tensor, v_TGE: Tensor, stripes: Stripes, context: AttnContext, *, scale: float
) -> str | None:
    """On a GPU, at most float32, of usual widths."""
    if max(q_THD.shape[2], v_TGE.shape[2]) > MAX_WIDTH:
        return f"key width {q_THD.shape[2]} or value width {v_TGE.shape[2]} is more than {MAX_WIDTH}"
    return _gpu.why_not("sample_attention", q_THD, k_TGD, v_TGE)


def run(q_THD: Tensor, k_TGD: Tensor, v_TGE: Tensor, stripes: Stripes, context: AttnContext, *, scale: float) -> Tensor:
    """See `godwit.ops.sample_attention.stripe_attention`."""
    return _Attend.apply(q_THD, k_TGD, v_TGE, stripes, context, scale)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q_THD, k_TGD, v_TGE, stripes, context, scale):  # noqa: ANN001 (torch calls it)
        from godwit.ops.sample_attention._triton import attend

        ctx.save_for_backward(q_THD, k_TGD, v_TGE)
        ctx.settings = stripes, context, scale
        q, k, v = _gpu.common(q_THD, k_TGD, v_TGE)
        size = ROWS_FLOAT32 if q.dtype == torch.float32 else ROWS
        borders, blocks = [0], []
        for (start, end), window in zip(context.bounds, stripes.window_S, strict=True):
            ends = [min(first + size, end) for first in range(start, end, size)]
            borders += ends
            blocks += [(start, min(window, end - start))] * len(ends)
        start_N, window_N = torch.tensor(blocks, dtype=torch.int32, device=q.device).view(-1, 2).T.contiguous()
        keep_HT = stripes.keep_TH.T
        # A stable sort puts the kept positions first, in order.
        column_HT = (~keep_HT).to(torch.int8).sort(dim=1, stable=True).indices.int().contiguous()
        count_HT = torch.nn.functional.pad(keep_HT.cumsum(dim=1), (1, 0)).int().contiguous()
        out_THE = q_THD.new_empty(*q.shape[:2], v.shape[2])
        if blocks:
            with torch.cuda.device_of(q):
                attend[(len(blocks), q.shape[1])](
                    q, k, v, stripes.keep_TH.to(torch.int8).contiguous(), column_HT, count_HT, start_N, window_N,
                    torch.tensor(borders, dtype=torch.int32, device=q.device), out_THE, scale, q.shape[0], q.shape[1],
                    k.shape[1], q.shape[2], v.shape[2], ROWS=size, WIDTH=_gpu.side(q.shape[2]),
                    VALUE=_gpu.side(v.shape[2]), TILE=TILE if size == ROWS else ROWS_FLOAT32, num_warps=8,
                    num_stages=2,
                )  # fmt: skip
        return out_THE

    @staticmethod
    def backward(ctx, dout_THE):  # noqa: ANN001  # pyrefly: ignore[bad-override]
        stripes, context, scale = ctx.settings
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x in ctx.saved_tensors]
            q_THD, k_TGD, v_TGE = leaves
            out_THE = blocked.run(q_THD, k_TGD, v_TGE, stripes, context, scale=scale)
        return *torch.autograd.grad(out_THE, leaves, dout_THE), None, None, None
