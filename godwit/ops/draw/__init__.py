"""One token a row: min_p, top_k and top_p, each over what the ones before left, then one draw.

    min_p keeps p >= min_p (p is relative to the likeliest), top_k the k likeliest, top_p the fewest likeliest that hold
    this share of what is left. Of equals the lower id is the likelier.
    The draw is the first token, by id, whose sum of the kept p is above u of all of them.

Sums are in float64. A row's token comes from its own row alone.

Letters: B rows, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.ops.backends import Op

_OP = Op(__name__, order=("compiled", "reference"))


class Cuts(NamedTuple):
    """What rows keep, on the CPU: float64 `(B,)`, `top_k` int64. 1, 0 and 0 keep all; top_p is above 0."""

    top_p_B: Tensor
    top_k_B: Tensor
    min_p_B: Tensor

    @property
    def any(self) -> bool:
        """Whether any row leaves tokens out."""
        return bool(((self.top_p_B < 1) | (self.top_k_B > 0) | (self.min_p_B > 0)).any())


@torch.no_grad()
def draw(p_BV: Tensor, u_B: Tensor, cuts: Cuts) -> Tensor:
    """Tokens, int64 `(B,)`, each with p above 0.

    Args:
        p_BV: probabilities relative to the likeliest token, which has 1; float64.
        u_B: uniform numbers in [0, 1), float64, on the CPU.
        cuts: see `Cuts`.

    Raises:
        GodwitError: for another dtype.
    """
    if p_BV.dtype != torch.float64:
        raise GodwitError(f"draw takes probabilities in float64, got {p_BV.dtype}; sums of many small ones need it")
    return _OP(p_BV, u_B, cuts)
