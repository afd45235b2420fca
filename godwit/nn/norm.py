"""Root-mean-square normalisation as the GLM checkpoints were trained with it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from godwit.ops.rms_norm import rms_norm


class RMSNorm(nn.Module):
    """y = weight * cast(x / sqrt(mean(x^2) + eps)), the mean in float32, the cast back before the weight."""

    def __init__(self, width: int, *, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        if x.dtype == torch.float32:
            return rms_norm(x, self.weight, eps=self.eps)
        return self.weight * F.rms_norm(x.float(), self.weight.shape, None, self.eps).to(x.dtype)
