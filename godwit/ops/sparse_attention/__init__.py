"""Attention over a given set of positions per query, one set for all heads (DeepSeek Sparse Attention's core).

out[t, h] = sum_{s in S_t} softmax_{s in S_t}( scale * q[t, h] . k[s, g(h)] ) v[s, g(h)],  S_t = index[t] without -1.

`index_TK` holds flat positions (rows of k and v), -1 where a row has fewer than K. Every row has at least one
position, and all lie in the query's document at or before it: whoever selected them has seen to that.

Letters: T tokens, H query heads, G key-value heads, D key width, E value width, K selected positions.
"""

from torch import Tensor

from godwit.ops.backends import Op
from godwit.ops.context import AttnContext

_OP = Op(__name__, order=("masked", "compiled", "reference"))


def sparse_attention(
    q_THD: Tensor, k_TGD: Tensor, v_TGE: Tensor, index_TK: Tensor, context: AttnContext, *, scale: float
) -> Tensor:
    """Attention over selected positions, `(T, H, E)`; differentiable in q, k and v."""
    return _OP(q_THD, k_TGD, v_TGE, index_TK, context, scale=scale)


# `masked` takes the queries for the keys' own tokens.
_ROWS_OP = Op(__name__, order=("compiled", "reference"))


def sparse_attention_rows(q_QHD: Tensor, k_NGD: Tensor, v_NGE: Tensor, index_QK: Tensor, *, scale: float) -> Tensor:
    """The same over the rows of a cache, `(Q, H, E)`: queries need not be among its N tokens.

    Keys and values that are views of `(G, N, width)` are read where they lie.
    """
    return _ROWS_OP(q_QHD, k_NGD, v_NGE, index_QK, AttnContext.single(k_NGD.shape[0], k_NGD.device), scale=scale)
