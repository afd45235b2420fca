"""SampleAttention: causal attention over a local window and a few columns per head, chosen by looking at few rows.

Per document of length L and per query head (arXiv 2406.15486, version 2):

    window   w = ceil(window_ratio L): row t sees the positions t - w + 1 .. t
    stage 1  the last row of each of ceil(row_ratio L) equal strides is computed exactly; m[s] = sum of its softmax
    stage 2  the fewest columns s, largest m first, that hold alpha of sum_s m[s], are kept for every row
    out[t, h] = sum_{s in S_th} softmax_{s in S_th}( scale q[t, h] . k[s, g(h)] ) v[s, g(h)],
                S_th = {s <= t : s in the window of t, or s kept for h}

`alpha` bounds the mean kept mass of the sampled rows and nothing else; single rows can lose far more. The window alone
costs 2 window_ratio - window_ratio^2 of dense attention. The paper also keeps some last rows dense, of unstated number;
that is left out. Not in the paper: a head that would compute most pairs anyway (`dense_above`) keeps all columns of the
document, which is exact and, as plain dense attention, faster. For prefill: every token of a document must be there, so
there is no decoding step. Values never flow from later tokens to earlier ones, but which columns an early row sees is
decided by rows all over the document.

Selection is one function for all backends; they differ in how they attend over what was selected, and only that is in
the parity matrix, because a score on the edge of `alpha` may fall either way in float32 and float64.

Letters: T tokens, H query heads, G key-value heads (G divides H), D key width, E value width, S documents with tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.ops.backends import Op
from godwit.ops.context import AttnContext
from godwit.ops.sample_attention._stripes import (
    Stripes,
    column_costs,
    column_mass,
    columns_holding,
    sampled_rows,
    share_H,
    window_entries,
    window_of,
)

__all__ = [
    "Sampling",
    "Stripes",
    "column_costs",
    "column_mass",
    "sample_attention",
    "select_stripes",
    "stripe_attention",
    "window_entries",
]

_OP = Op(__name__, order=("triton", "blocked", "reference"))


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What SampleAttention keeps. The defaults are the paper's, but for `dense_above`.

    Attributes:
        alpha: share of the sampled rows' attention that the kept columns hold, above 0; 1 keeps every column.
        row_ratio: share of the rows that are sampled, above 0; at least one row is.
        window_ratio: window over document length, 0 to 1; a row always sees itself, and 1 is dense attention.
        outside_window: ask for `alpha` of window and columns together. The paper's rule asks it of the columns alone,
            and so scatters columns over what the window holds already: heads that look nearby become nearly dense.
        dense_above: a head of which more than this share of all pairs would be computed is dense in that document; 1 is
            the paper's rule. On a CPU a pair over columns takes 1.5 times as long as one of PyTorch's dense attention.
    """

    alpha: float = 0.95
    row_ratio: float = 0.05
    window_ratio: float = 0.08
    outside_window: bool = False
    dense_above: float = 0.65

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise GodwitError(f"alpha is {self.alpha}; give more than 0 and at most 1 (every column)")
        if not 0 < self.row_ratio <= 1:
            raise GodwitError(f"row_ratio is {self.row_ratio}; give more than 0 and at most 1 (every row)")
        if not 0 <= self.window_ratio <= 1:
            raise GodwitError(f"window_ratio is {self.window_ratio}; give 0 (only itself) to 1 (the whole document)")
        if not 0 <= self.dense_above <= 1:
            raise GodwitError(f"dense_above is {self.dense_above}; give 0 (every head dense) to 1 (none)")


def sample_attention(
    q_THD: Tensor, k_TGD: Tensor, v_TGE: Tensor, context: AttnContext, *, scale: float, sampling: Sampling
) -> Tensor:
    """Select and attend, `(T, H, E)`. With `sampling` bound it stands wherever `godwit.ops.attention.attention` does.

    Gradients flow to q, k and v through the attention, none through the selection.
    """
    stripes = select_stripes(q_THD, k_TGD, context, scale=scale, sampling=sampling)
    return stripe_attention(q_THD, k_TGD, v_TGE, stripes, context, scale=scale)


@torch.no_grad()
def select_stripes(q_THD: Tensor, k_TGD: Tensor, context: AttnContext, *, scale: float, sampling: Sampling) -> Stripes:
    """The window of each document and the columns kept for each head.

    Raises:
        GodwitError: shapes that do not belong together, or scores that are NaN or infinite.
    """
    _check(q_THD, k_TGD, context)
    keep_TH = torch.zeros(q_THD.shape[:2], dtype=torch.bool, device=q_THD.device)
    windows = []
    for start, end in context.bounds:
        length = end - start
        window = window_of(sampling.window_ratio, length)
        windows.append(window)
        if sampling.alpha == 1:
            # Columns without mass in the sampled rows may have some in others.
            keep_TH[start:end] = True
        elif window < length:
            rows_R = sampled_rows(sampling.row_ratio, length, q_THD.device)
            skipped = window if sampling.outside_window else 0
            keep_HL = columns_holding(
                sampling.alpha, q_THD[start:end], k_TGD[start:end], rows_R, scale=scale, skipped=skipped
            )
            keep_TH[start:end] = (keep_HL | (share_H(keep_HL, window) > sampling.dense_above).unsqueeze(1)).T
    return Stripes(keep_TH, tuple(windows))


def stripe_attention(
    q_THD: Tensor, k_TGD: Tensor, v_TGE: Tensor, stripes: Stripes, context: AttnContext, *, scale: float
) -> Tensor:
    """Attention over given windows and columns, `(T, H, E)`; differentiable in q, k and v."""
    _check(q_THD, k_TGD, context)
    if stripes.keep_TH.shape != q_THD.shape[:2] or len(stripes.window_S) != len(context.bounds):
        raise GodwitError(
            f"stripes of {tuple(stripes.keep_TH.shape)} (tokens, heads) and {len(stripes.window_S)} documents do not "
            f"fit queries of {tuple(q_THD.shape[:2])} and {len(context.bounds)} documents; select for these queries"
        )
    if v_TGE.shape[:2] != k_TGD.shape[:2]:
        raise GodwitError(f"keys {tuple(k_TGD.shape)} and values {tuple(v_TGE.shape)} must agree in tokens and heads")
    return _OP(q_THD, k_TGD, v_TGE, stripes, context, scale=scale)


def _check(q_THD: Tensor, k_TGD: Tensor, context: AttnContext) -> None:
    if q_THD.shape[0] != k_TGD.shape[0] or q_THD.shape[0] != context.num_tokens or q_THD.shape[2] != k_TGD.shape[2]:
        raise GodwitError(
            f"queries {tuple(q_THD.shape)} and keys {tuple(k_TGD.shape)} must have the {context.num_tokens} tokens of "
            "the context and one width"
        )
    if k_TGD.shape[1] == 0 or q_THD.shape[1] % k_TGD.shape[1]:
        raise GodwitError(f"{k_TGD.shape[1]} key-value heads must divide {q_THD.shape[1]} query heads")
