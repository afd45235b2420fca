"""Passes over a row, compiled with numba, on CPUs: only tokens about as likely as the last that is kept are sorted."""

import torch
from torch import Tensor

from godwit.ops._threads import match_threads
from godwit.ops.draw import Cuts

# Numbers from which on threads pay for waking them.
MANY = 1 << 17


def why_not(p_BV: Tensor, u_B: Tensor, cuts: Cuts) -> str | None:
    """On a CPU."""
    return None if p_BV.device.type == "cpu" else f"device {p_BV.device.type} is no CPU"


def run(p_BV: Tensor, u_B: Tensor, cuts: Cuts) -> Tensor:
    """See `godwit.ops.draw.draw`."""
    # numba takes a second to import; only those who draw pay for it.
    from godwit.ops.draw._kernel import draw_all

    token_B = torch.empty(p_BV.shape[0], dtype=torch.int64)
    runs = 1
    if p_BV.numel() >= MANY:
        match_threads()
        runs = min(torch.get_num_threads(), p_BV.shape[0])
    p_BV = p_BV.contiguous()
    arrays = p_BV, p_BV.view(torch.int64), u_B, *cuts, token_B
    draw_all(*(x.numpy() for x in arrays), runs)
    return token_B
