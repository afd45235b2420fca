"""Positions of a selection as a mask over keys, in plain torch."""

import torch
from torch import Tensor


def as_mask(column_QK: Tensor, length: int) -> Tensor:
    """`(Q, length)`, true at each row's columns; negative columns stand for nothing."""
    # One spare column takes the negative ones; it is cut off again.
    mask_QL = torch.zeros(column_QK.shape[0], length + 1, dtype=torch.bool, device=column_QK.device)
    return mask_QL.scatter_(1, torch.where(column_QK < 0, length, column_QK), True)[:, :-1]
