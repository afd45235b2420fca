"""Padding that costs nothing where there is nothing to add."""

import torch.nn.functional as F
from torch import Tensor


def padded(x: Tensor, pad: tuple[int, ...]) -> Tensor:
    """`F.pad` with zeros; `x` itself where every number of `pad` is 0, which `F.pad` would copy."""
    return F.pad(x, pad) if any(pad) else x
