"""Sparse latent attention in absorbed form: one row (latent | rope) per token is key and value of all heads.

With W_UK and W_UV folded into queries and outputs (DeepSeek-V2, arXiv 2405.04434, section 2.1.2), attention reads the
latent cache itself; keys and values of the heads are never expanded:

    out[t, h] = sum_{s in S_t} softmax_{s in S_t}( scale * q[t, h] . c[s] ) c[s, :C],  S_t = index[t] without -1
    lse[t, h] = log sum_{s in S_t} exp( scale * q[t, h] . c[s] )

Every row of `index_QK` has at least one position, -1 behind its last, all at or before the query in its document.

Letters: Q queries, T tokens, H heads, C latent width, R rope width, W = C + R, K selected positions.
"""

from typing import NamedTuple

from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.ops.backends import Op

_OP = Op(__name__, order=("triton", "compiled", "reference"))


class LatentAttended(NamedTuple):
    """Outputs in latent space `(Q, H, C)` in the dtype of the queries, and log-sum-exp, float32 or wider, `(Q, H)`."""

    out_QHC: Tensor
    lse_QH: Tensor


def sparse_mla(q_QHW: Tensor, c_TW: Tensor, index_QK: Tensor, *, scale: float, latent_width: int) -> LatentAttended:
    """Attention over selected latent rows; outputs and log-sum-exp are differentiable in q and c.

    Raises:
        GodwitError: for shapes that do not fit each other.
    """
    shapes = tuple(q_QHW.shape), tuple(c_TW.shape), tuple(index_QK.shape)
    fits = [len(shape) for shape in shapes] == [3, 2, 2] and shapes[0][2] == shapes[1][1]
    if not fits or shapes[0][0] != shapes[2][0] or shapes[2][1] < 1 or not 0 < latent_width <= shapes[1][1]:
        raise GodwitError(
            "sparse_mla wants queries (Q, H, W), rows (T, W), positions (Q, K) of at least one column, and a latent "
            f"width from 1 to W; got {shapes} and {latent_width}"
        )
    return _OP(q_QHW, c_TW, index_QK, scale=scale, latent_width=latent_width)
