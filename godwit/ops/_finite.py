"""NaN and Inf in what is about to be scored."""

from torch import Tensor


def all_finite(*tensors: Tensor) -> bool:
    """Whether no number of these is NaN or Inf: by their sums, one pass; one by one only where a sum overflows."""
    return all(bool(x.sum().isfinite()) or bool(x.isfinite().all()) for x in tensors)
