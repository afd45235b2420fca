"""Root-mean-square normalisation (Zhang and Sennrich, arXiv 1910.07467): y = weight x / sqrt(mean(x^2) + eps).

Letters: D width, the last dimension of x.
"""

from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.ops.backends import Op

_OP = Op(__name__, order=("compiled", "reference"))


def rms_norm(x: Tensor, weight_D: Tensor, *, eps: float) -> Tensor:
    """`x` `(..., D)` normalised over its last dimension; gradients reach both.

    Raises:
        GodwitError: the weight is not as wide as x.
    """
    if weight_D.shape != x.shape[-1:]:
        raise GodwitError(f"rows of width {x.shape[-1]} take as many weights, got {tuple(weight_D.shape)}")
    return _OP(x, weight_D, eps=eps)
