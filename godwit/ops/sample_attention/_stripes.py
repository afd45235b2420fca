"""Choosing columns by the attention they get from some rows, and counting what a choice costs.

Letters: T tokens, L tokens of one document, R rows looked at, H query heads, G key-value heads, P = H / G, D width,
S documents with tokens, C rows computed at once.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.ops.context import AttnContext

# Scores held at once: 16 MB in float32.
MAX_SCORES = 1 << 22


class Stripes(NamedTuple):
    """What each row sees besides the causal limit.

    Attributes:
        keep_TH: bool (T, H): this position is seen by all later rows of its document, in this head.
        window_S: positions up to and including itself that every row sees, at least 1, for each document with tokens;
            a window longer than the document is the whole document.
    """

    keep_TH: Tensor
    window_S: tuple[int, ...]

    def entries_SH(self, context: AttnContext) -> Tensor:
        """int64 (S, H): pairs of row and position that are computed; dense attention has L (L + 1) / 2."""
        counts = [torch.zeros(0, self.keep_TH.shape[1], dtype=torch.int64, device=self.keep_TH.device)]
        for (start, end), window in zip(context.bounds, self.window_S, strict=True):
            counts.append(entries_H(self.keep_TH[start:end].T, window).unsqueeze(0))
        return torch.cat(counts)

    def density_H(self, context: AttnContext) -> Tensor:
        """float64 (H,): computed pairs over those of dense attention, all documents together."""
        dense = sum(window_entries(end - start, end - start) for start, end in context.bounds)
        return self.entries_SH(context).sum(dim=0).double() / max(dense, 1)


def entries_H(keep_HL: Tensor, window: int) -> Tensor:
    """int64 (H,): pairs of row and position that are computed in one document."""
    cost_L = column_costs(keep_HL.shape[1], window, keep_HL.device)
    return (keep_HL * cost_L).sum(dim=1) + window_entries(keep_HL.shape[1], window)


def share_H(keep_HL: Tensor, window: int) -> Tensor:
    """float64 (H,): the same over those of dense attention."""
    return entries_H(keep_HL, window).double() / window_entries(keep_HL.shape[1], keep_HL.shape[1])


def window_of(ratio: float, length: int) -> int:
    """Window of a document of `length`."""
    return max(1, math.ceil(ratio * length))


def window_entries(length: int, window: int) -> int:
    """Pairs of row and position inside the window."""
    window = min(window, length)
    return window * (window + 1) // 2 + window * (length - window)


def column_costs(length: int, window: int, device: torch.device) -> Tensor:
    """int64 (L,): rows that see a column only because it is kept, those at least `window` behind it."""
    return (length - window - torch.arange(length, device=device)).clamp(min=0)


def sampled_rows(ratio: float, length: int, device: torch.device) -> Tensor:
    """int64 (R,): the last row of each of R = ceil(ratio L) strides. First rows would see too few positions."""
    number = math.ceil(ratio * length)
    return torch.arange(1, number + 1, device=device) * length // number - 1


def columns_holding(
    alpha: float, q_LHD: Tensor, k_LGD: Tensor, rows_R: Tensor, *, scale: float, skipped: int
) -> Tensor:
    """bool (H, L): the fewest columns, largest first, with `alpha` of the rows' mass; equals in order of position.

    The last `skipped` positions up to each row count as held without any column.
    """
    mass_HL = column_mass(q_LHD, k_LGD, rows_R, scale=scale, skipped=skipped)
    sorted_HL, order_HL = mass_HL.sort(dim=1, descending=True, stable=True)
    held_HL = sorted_HL.cumsum(dim=1)
    # Each row has mass 1; what no column holds is in the skipped part.
    in_skipped_H1 = (rows_R.numel() - held_HL[:, -1:]).clamp(min=0) if skipped else 0.0
    total_H1 = held_HL[:, -1:] + in_skipped_H1
    before_HL = held_HL - sorted_HL + in_skipped_H1
    needed_HL = before_HL < alpha * total_H1
    return torch.zeros_like(needed_HL).scatter_(1, order_HL, needed_HL)


def column_mass(q_LHD: Tensor, k_LGD: Tensor, rows_R: Tensor, *, scale: float, skipped: int = 0) -> Tensor:
    """float64 (H, L): softmax weight each column gets from the rows, without the last `skipped` positions of each.

    Raises:
        GodwitError: when it is NaN or infinite.
    """
    length, num_heads, width = q_LHD.shape
    num_groups = k_LGD.shape[1]
    wide = torch.promote_types(q_LHD.dtype, torch.float32)
    q_GPRD = q_LHD[rows_R].to(wide).mul(scale).unflatten(1, (num_groups, -1)).permute(1, 2, 0, 3)
    k_GDL = k_LGD.to(wide).permute(1, 2, 0)
    mass_HL = torch.zeros(num_heads, length, dtype=torch.float64, device=q_LHD.device)
    chunk = max(1, MAX_SCORES // (num_heads * length))
    for first in range(0, rows_R.numel(), chunk):
        row_C1 = rows_R[first : first + chunk].unsqueeze(1)
        visible = int(row_C1[-1]) + 1
        column_L = torch.arange(visible, device=q_LHD.device)
        q_GXD = q_GPRD[:, :, first : first + chunk].reshape(num_groups, -1, width)
        score_HCL = (q_GXD @ k_GDL[:, :, :visible]).view(num_heads, -1, visible)
        p_HCL = score_HCL.masked_fill_(column_L > row_C1, float("-inf")).softmax(dim=-1)
        if skipped:
            p_HCL.masked_fill_(column_L > row_C1 - skipped, 0.0)
        mass_HL[:, :visible] += p_HCL.sum(dim=1)
    if not mass_HL.isfinite().all():
        raise GodwitError("attention scores are NaN or infinite; the weights are damaged or training diverged")
    return mass_HL
