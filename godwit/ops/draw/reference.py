"""The definition, by sorting the vocabulary."""

import torch
from torch import Tensor

from godwit.ops.draw import Cuts


def why_not(p_BV: Tensor, u_B: Tensor, cuts: Cuts) -> None:
    """It takes everything."""


def run(p_BV: Tensor, u_B: Tensor, cuts: Cuts) -> Tensor:
    """See `godwit.ops.draw.draw`."""
    if cuts.any:
        p_BV = _cut(p_BV, cuts)
    sum_BV = p_BV.cumsum(dim=-1)
    place_B1 = torch.searchsorted(sum_BV, u_B.to(p_BV.device).unsqueeze(1) * sum_BV[:, -1:], right=True)
    # u of the sum may round up to the sum itself: then the token that reaches it.
    last_B1 = torch.searchsorted(sum_BV, sum_BV[:, -1:].contiguous())
    return place_B1.minimum(last_B1).squeeze(1)


def _cut(p_BV: Tensor, cuts: Cuts) -> Tensor:
    """0 for what is left out."""
    top_p_B1, top_k_B1, min_p_B1 = (x_B.to(p_BV.device).unsqueeze(1) for x_B in cuts)
    sorted_BV, id_BV = p_BV.sort(dim=-1, descending=True, stable=True)
    sorted_BV = sorted_BV * (sorted_BV >= min_p_B1)
    rank_V = torch.arange(p_BV.shape[1], device=p_BV.device)
    sorted_BV = sorted_BV * ((rank_V < top_k_B1) | (top_k_B1 == 0))
    sum_BV = sorted_BV.cumsum(dim=-1)
    # All of it is all of it, whatever rounding says.
    kept_BV = (sum_BV - sorted_BV < top_p_B1 * sum_BV[:, -1:]) | (top_p_B1 >= 1)
    return torch.zeros_like(p_BV).scatter_(1, id_BV, sorted_BV * kept_BV)
