"""Dense causal attention over the documents of a flat batch.

out[t, h] = sum_s softmax_s( scale * q[t, h] . k[s, g(h)] ) v[s, g(h)],  s <= t in t's document, g(h) = h * G // H.

Queries may be only the last tokens of their documents (prefill in chunks): `query_seqlens` says how many of each.

Letters: T tokens, Q queries (T, or the sum of `query_seqlens`), H query heads,
G key-value heads (G divides H), D key width, E value width.
"""

from torch import Tensor

from godwit.ops.backends import Op
from godwit.ops.context import AttnContext

_OP = Op(__name__, order=("sdpa", "reference"))


def attention(
    q_THD: Tensor,
    k_TGD: Tensor,
    v_TGE: Tensor,
    context: AttnContext,
    *,
    scale: float,
    query_seqlens: tuple[int, ...] | None = None,
) -> Tensor:
    """Causal attention, `(Q, H, E)`, in the dtype of `q_THD` `(Q, H, D)`; differentiable in q, k and v."""
    return _OP(q_THD, k_TGD, v_TGE, context, scale=scale, query_seqlens=query_seqlens)
