"""Passes over a row, compiled with numba, on CPUs: only tokens about as likely as the last that is kept are sorted."""

import torch
from torch import Tensor

from godwit.ops._threads import match_threads
from godwit.ops.draw import Rows

# Logits that are worth a thread's waking.
MANY = 1 << 13


def why_not(logits_BV: Tensor, rows: Rows) -> str | None:
    """float32 on a CPU."""
    if logits_BV.device.type != "cpu":
        return f"device {logits_BV.device.type} is no CPU"
    if logits_BV.dtype != torch.float32:
        return f"dtype {logits_BV.dtype} is not float32"
    return None


def run(logits_BV: Tensor, rows: Rows) -> Tensor:
    """See `godwit.ops.draw.draw`."""
    # numba takes a second to import; only those who draw pay for it.
    from godwit.ops.draw._kernel import draw_in_runs, draw_rows

    token_B = torch.empty(logits_BV.shape[0], dtype=torch.int64)
    z = logits_BV.contiguous().numpy()
    # argmax takes NaN for the highest, so that the loops see every damaged row at it. numpy's is vectorised.
    given = z, z.argmax(axis=1), tuple(x_B.numpy() for x_B in rows), token_B.numpy()
    runs = min(torch.get_num_threads(), 1 + logits_BV.numel() // MANY)
    if runs == 1:
        draw_rows(*given, 0, len(z))
    else:
        match_threads()
        draw_in_runs(*given, runs)
    return token_B
