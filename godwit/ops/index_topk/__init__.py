"""The lightning indexer's selection: for each query the `topk` positions of its document with the highest scores.

I[t, s] = sum_j w[t, j] * ReLU(q[t, j] . k[s]),  s <= t in t's document, in float32 (DeepSeek-V3.2, arXiv 2512.02556).
The caller folds the scales d^-0.5 and H^-0.5 into `w`, which is signed.

ReLU makes exact ties at 0, so the tie-break is part of the definition: **the lower position wins**. Row t of the
result holds the flat positions in ascending order, then -1; a row with at most `topk` visible positions holds all.

Queries may be only the last tokens of their documents (prefill in chunks, decoding): `query_seqlens` says how many
of each. What a position selects does not depend on how many queries are asked at once.

Letters: T tokens, Q queries (T, or the sum of `query_seqlens`), H index heads, D index width,
K = min(topk, longest document).
"""

import torch
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.ops._finite import all_finite
from godwit.ops.backends import Op
from godwit.ops.context import AttnContext

_OP = Op(__name__, order=("triton", "compiled", "threshold", "reference"))


@torch.no_grad()
def index_topk(
    q_QHD: Tensor,
    k_TD: Tensor,
    w_QH: Tensor,
    context: AttnContext,
    *,
    topk: int,
    query_seqlens: tuple[int, ...] | None = None,
) -> Tensor:
    """Selected flat positions, int32 `(Q, K)`. No gradient: the indexer learns from its own loss.

    Raises:
        GodwitError: for a `topk` below 1, shapes that do not fit each other, NaN in the inputs (on a CPU).
    """
    check(q_QHD, k_TD, w_QH, context, topk=topk, query_seqlens=query_seqlens)
    return _OP(q_QHD, k_TD, w_QH, context, topk=topk, query_seqlens=query_seqlens)


def check(
    q_QHD: Tensor,
    k_TD: Tensor,
    w_QH: Tensor,
    context: AttnContext,
    *,
    topk: int,
    query_seqlens: tuple[int, ...] | None,
) -> None:
    """Refuse what no backend could answer sensibly."""
    if topk < 1:
        raise GodwitError(f"index_topk must be at least 1, got {topk}")
    lengths = context.seqlens if query_seqlens is None else query_seqlens
    if len(lengths) != len(context.seqlens) or any(n > m or n < 0 for n, m in zip(lengths, context.seqlens)):
        raise GodwitError(f"query_seqlens {lengths[:8]} must be between 0 and the documents' {context.seqlens[:8]}")
    expected = ((sum(lengths), *q_QHD.shape[1:]), (context.num_tokens, q_QHD.shape[2]), (sum(lengths), q_QHD.shape[1]))
    if (q_QHD.shape, k_TD.shape, w_QH.shape) != expected:
        got = tuple(q_QHD.shape), tuple(k_TD.shape), tuple(w_QH.shape)
        raise GodwitError(f"index queries, keys and weights must have shapes {expected}, got {got}")
    # On a GPU this would wait for the device at every layer; the model's own loss tells there.
    if q_QHD.device.type == "cpu" and not all_finite(q_QHD, k_TD, w_QH):
        raise GodwitError("index queries, keys or weights hold NaN or Inf: damaged weights, or training diverged")
