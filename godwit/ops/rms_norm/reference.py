"""The definition, in plain torch."""

import torch.nn.functional as F
from torch import Tensor


def why_not(*_args, **_kwargs) -> None:
    """The reference takes everything."""


def run(x: Tensor, weight_D: Tensor, *, eps: float) -> Tensor:
    """See `godwit.ops.rms_norm.rms_norm`."""
    return F.rms_norm(x, weight_D.shape, weight_D, eps)
