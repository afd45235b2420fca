"""Attention over a given set of positions per query, one set for all heads (DeepSeek Sparse Attention's core).

out[t, h] = sum_{s in S_t} softmax_{s in S_t}( scale * q[t, h] . k[s, g(h)] ) v[s, g(h)],  S_t = index[t] without -1.

`index_TK` holds flat positions (rows of k and v), -1 where a row has fewer than K. Every row has at least one
position, and all lie in the query's document at or before it: whoever selected them has seen to that.

The log-sum-exp, lse[t, h] = log sum_{s in S_t} exp( scale * q[t, h] . k[s, g(h)] ), is what merges attention over parts
of a selection. It is given when asked for, because the fused attention behind `masked` keeps its own to itself.

Letters: T tokens, H query heads, G key-value heads, D key width, E value width, K selected positions.
"""

from typing import NamedTuple

from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.ops.backends import Op
from godwit.ops.context import AttnContext

_OP = Op(__name__, order=("triton", "masked", "compiled", "reference"))


class Attended(NamedTuple):
    """Outputs `(T, H, E)` in the dtype of the queries; log-sum-exp `(T, H)`, at least float32, if asked for."""

    out_THE: Tensor
    lse_TH: Tensor | None


def sparse_attention(
    q_THD: Tensor,
    k_TGD: Tensor,
    v_TGE: Tensor,
    index_TK: Tensor,
    context: AttnContext,
    *,
    scale: float,
    with_lse: bool = False,
) -> Attended:
    """Attention over selected positions; outputs and log-sum-exp are differentiable in q, k and v.

    Raises:
        GodwitError: for shapes that do not fit each other.
    """
    _check(q_THD, k_TGD, v_TGE, index_TK, context)
    return _OP(q_THD, k_TGD, v_TGE, index_TK, context, scale=scale, with_lse=with_lse)


def _check(q_THD: Tensor, k_TGD: Tensor, v_TGE: Tensor, index_TK: Tensor, context: AttnContext) -> None:
    shapes = [tuple(x.shape) for x in (q_THD, k_TGD, v_TGE, index_TK)]
    if [len(shape) for shape in shapes] == [3, 3, 3, 2]:
        q, k, v, index = shapes
        fits = q[2] == k[2] and k[1] == v[1] and k[1] > 0 and q[1] % k[1] == 0 and index[1] > 0
        if fits and {q[0], k[0], v[0], index[0]} == {context.num_tokens}:
            return
    raise GodwitError(
        f"sparse_attention wants queries (T, H, D), keys (T, G, D), values (T, G, E), G dividing H, and positions "
        f"(T, K) of at least one column, for {context.num_tokens} tokens; got {', '.join(map(str, shapes))}"
    )


# `masked` takes the queries for the keys' own tokens.
_ROWS_OP = Op(__name__, order=("compiled", "reference"))


def sparse_attention_rows(q_QHD: Tensor, k_NGD: Tensor, v_NGE: Tensor, index_QK: Tensor, *, scale: float) -> Tensor:
    """The same over the rows of a cache, `(Q, H, E)`: queries need not be among its N tokens.

    Keys and values that are views of `(G, N, width)` are read where they lie.
    """
    context = AttnContext.single(k_NGD.shape[0], k_NGD.device)
    return _ROWS_OP(q_QHD, k_NGD, v_NGE, index_QK, context, scale=scale).out_THE
