"""One pass over the heads, compiled with numba, on CPUs: what torch does in nine, with the same bits.

torch walks rows of a few numbers, some of them strided, and that walk costs more than the products.
"""

import torch
from torch import Tensor

from godwit.ops._array import array
from godwit.ops._threads import match_threads


def why_not(x_THD: Tensor, cos_TP: Tensor, sin_TP: Tensor, *, start: int, interleaved: bool) -> str | None:
    """float32 on a CPU."""
    if x_THD.device.type != "cpu":
        return f"device {x_THD.device.type} is no CPU"
    if {x_THD.dtype, cos_TP.dtype, sin_TP.dtype} != {torch.float32}:
        return f"dtype {x_THD.dtype} is not float32"
    return None


def run(x_THD: Tensor, cos_TP: Tensor, sin_TP: Tensor, *, start: int, interleaved: bool) -> Tensor:
    """See `godwit.ops.rotate.rotate`."""
    return _Rotate.apply(x_THD, cos_TP, sin_TP, start, interleaved)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_THD, cos_TP, sin_TP, start, interleaved):  # noqa: ANN001 (torch calls it)
        ctx.save_for_backward(cos_TP, sin_TP)
        ctx.layout = start, interleaved
        return _turn(x_THD, cos_TP, sin_TP, start, from_pairs=interleaved, to_pairs=False)

    @staticmethod
    def backward(ctx, dout_THD):  # noqa: ANN001  # pyrefly: ignore[bad-override]
        (cos_TP, sin_TP), (start, interleaved) = ctx.saved_tensors, ctx.layout
        # A rotation's gradient is rotated the other way, and goes where the pairs were.
        return _turn(dout_THD, cos_TP, -sin_TP, start, from_pairs=False, to_pairs=interleaved), None, None, None, None


def _turn(x_THD: Tensor, cos_TP: Tensor, sin_TP: Tensor, start: int, *, from_pairs: bool, to_pairs: bool) -> Tensor:
    # numba takes a second to import; only those who rotate pay for it.
    from godwit.ops.rotate._kernel import turn

    match_threads()
    out_THD = torch.empty(x_THD.shape)
    x, cos, sin = map(array, (x_THD, cos_TP, sin_TP))
    turn(x, cos, sin, start, from_pairs, to_pairs, out_THD.numpy())
    return out_THD
