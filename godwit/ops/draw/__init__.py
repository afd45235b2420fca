"""One token a row of logits: temperature, then min_p, top_k and top_p, each over what the ones before left, and a draw.

    p = exp((z - max z) / temperature)
    min_p keeps p >= min_p, top_k the k likeliest, top_p the fewest likeliest that hold this share of what is left. Of
    equals the lower id is the likelier.
    The draw is the first token, by id, whose sum of the kept p is above u of all of them. Temperature 0: the likeliest.

p and sums are in float64. A row's token comes from its own row alone.

Letters: B rows, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from godwit.ops.backends import Op

_OP = Op(__name__, order=("compiled", "reference"))


class Rows(NamedTuple):
    """How rows are drawn: float64 `(B,)`, `top_k` int64, on the CPU.

    `u` is uniform in [0, 1). top_p 1 (it is above 0), top_k 0 and min_p 0 keep all.
    """

    temperature_B: Tensor
    u_B: Tensor
    top_p_B: Tensor
    top_k_B: Tensor
    min_p_B: Tensor


@torch.no_grad()
def draw(logits_BV: Tensor, rows: Rows) -> Tensor:
    """Tokens, int64 `(B,)`, none of probability 0; -1 where a row has NaN, +Inf or nothing but -Inf."""
    return _OP(logits_BV, rows)
