"""The definition, in plain torch."""

import torch
from torch import Tensor


def why_not(*_args, **_kwargs) -> None:
    """The reference takes everything."""


def run(x_THD: Tensor, cos_TP: Tensor, sin_TP: Tensor, *, start: int, interleaved: bool) -> Tensor:
    """See `godwit.ops.rotate.rotate`."""
    end = start + 2 * cos_TP.shape[1]
    turned_THR = x_THD[..., start:end]
    if interleaved:
        x_THP, y_THP = turned_THR[..., 0::2], turned_THR[..., 1::2]
    else:
        x_THP, y_THP = turned_THR.chunk(2, dim=-1)
    cos_T1P, sin_T1P = (table_TP.to(x_THD.dtype).unsqueeze(1) for table_TP in (cos_TP, sin_TP))
    first_THP = x_THP * cos_T1P - y_THP * sin_T1P
    second_THP = y_THP * cos_T1P + x_THP * sin_T1P
    return torch.cat((x_THD[..., :start], first_THP, second_THP, x_THD[..., end:]), dim=-1)
