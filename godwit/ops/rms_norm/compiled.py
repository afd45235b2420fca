"""One pass over the rows, compiled with numba, on CPUs, where torch makes six; its gradients take two."""

import torch
from torch import Tensor

from godwit.ops._array import array
from godwit.ops._threads import match_threads


def why_not(x: Tensor, weight_D: Tensor, *, eps: float) -> str | None:
    """float32 on a CPU."""
    if x.device.type != "cpu":
        return f"device {x.device.type} is no CPU"
    if {x.dtype, weight_D.dtype} != {torch.float32}:
        return f"dtype {x.dtype} is not float32"
    return None


def run(x: Tensor, weight_D: Tensor, *, eps: float) -> Tensor:
    """See `godwit.ops.rms_norm.rms_norm`."""
    return _Normalise.apply(x.reshape(-1, x.shape[-1]), weight_D, eps).view(x.shape)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_TD, weight_D, eps):  # noqa: ANN001 (torch calls it)
        # numba takes a second to import; only those who normalise pay for it.
        from godwit.ops.rms_norm._kernel import normalise

        match_threads()
        out_TD, inverse_T = torch.empty(x_TD.shape), torch.empty(len(x_TD))
        normalise(array(x_TD), array(weight_D.clone()), eps, out_TD.numpy(), inverse_T.numpy())
        ctx.save_for_backward(x_TD, weight_D, inverse_T)
        return out_TD

    @staticmethod
    def backward(ctx, dout_TD):  # noqa: ANN001  # pyrefly: ignore[bad-override]
        from godwit.ops.rms_norm._kernel import row_gradients, weight_gradient

        match_threads()
        x_TD, weight_D, inverse_T = ctx.saved_tensors
        x, weight, inverse = array(x_TD), array(weight_D.clone()), array(inverse_T)
        dout, dx_TD, dweight_D = array(dout_TD), torch.empty(dout_TD.shape), torch.empty(len(weight))
        row_gradients(x, weight, inverse, dout, dx_TD.numpy())
        weight_gradient(x, inverse, dout, dweight_D.numpy())
        return dx_TD, dweight_D, None
