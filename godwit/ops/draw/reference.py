"""The definition, by sorting the vocabulary."""

import torch
from torch import Tensor

from godwit.ops.draw import Rows


def why_not(logits_BV: Tensor, rows: Rows) -> None:
    """It takes everything."""


def run(logits_BV: Tensor, rows: Rows) -> Tensor:
    """See `godwit.ops.draw.draw`."""
    likeliest_B = logits_BV.argmax(dim=-1)
    top_B1 = logits_BV.gather(1, likeliest_B.unsqueeze(1)).double()
    temperature_B1, u_B1, top_p_B1, top_k_B1, min_p_B1 = (x_B.to(logits_BV.device).unsqueeze(1) for x_B in rows)
    greedy_B1 = temperature_B1 == 0
    p_BV = ((logits_BV.double() - top_B1) / torch.where(greedy_B1, 1, temperature_B1)).exp()
    # Without cuts the order of the tokens is of no account, and sorting them is most of the work.
    if bool(((rows.top_p_B < 1) | (rows.top_k_B > 0) | (rows.min_p_B > 0)).any()):
        p_BV = _cut(p_BV, top_p_B1, top_k_B1, min_p_B1)
    sum_BV = p_BV.cumsum(dim=-1)
    place_B1 = torch.searchsorted(sum_BV, u_B1 * sum_BV[:, -1:], right=True)
    # u of the sum may round up to the sum itself: then the token that reaches it.
    last_B1 = torch.searchsorted(sum_BV, sum_BV[:, -1:].contiguous())
    token_B = torch.where(greedy_B1.squeeze(1), likeliest_B, place_B1.minimum(last_B1).squeeze(1))
    # argmax takes NaN for the highest, so this sees every damaged row.
    return torch.where(top_B1.squeeze(1).isfinite(), token_B, -1)


def _cut(p_BV: Tensor, top_p_B1: Tensor, top_k_B1: Tensor, min_p_B1: Tensor) -> Tensor:
    """0 for what is left out."""
    sorted_BV, id_BV = p_BV.sort(dim=-1, descending=True, stable=True)
    sorted_BV = sorted_BV * (sorted_BV >= min_p_B1)
    rank_V = torch.arange(p_BV.shape[1], device=p_BV.device)
    sorted_BV = sorted_BV * ((rank_V < top_k_B1) | (top_k_B1 == 0))
    sum_BV = sorted_BV.cumsum(dim=-1)
    # All of it is all of it, whatever rounding says.
    kept_BV = (sum_BV - sorted_BV < top_p_B1 * sum_BV[:, -1:]) | (top_p_B1 >= 1)
    return torch.zeros_like(p_BV).scatter_(1, id_BV, sorted_BV * kept_BV)
