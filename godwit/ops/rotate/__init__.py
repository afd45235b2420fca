"""Rotary position embedding (RoFormer, arXiv 2104.09864) of some columns of each head; the others stay as they are.

Of pair i at angle a: (x, y) -> (x cos a - y sin a, y cos a + x sin a). Pairs are (0, 1), (2, 3), ... (`interleaved`) or
(0, P), (1, P + 1), ... (the NeoX layout). The result lists all first halves, then all second halves, for both: that
reordering is the same for queries and keys, so their products are those of the paper's layout.

Letters: T tokens, H heads, D head width, P pairs.
"""

from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.ops.backends import Op

_OP = Op(__name__, order=("compiled", "reference"))


def rotate(x_THD: Tensor, cos_TP: Tensor, sin_TP: Tensor, *, start: int = 0, interleaved: bool) -> Tensor:
    """`x` with its columns `start` to `start + 2 P` rotated, in the dtype of x; gradients reach x only.

    Args:
        cos_TP: cosines of the tokens' angles, float32 `(T, P)`; a narrower x rounds them to its dtype first, as
            Transformers does, so that bfloat16 stays bfloat16.
        sin_TP: sines.
        start: first rotated column.
        interleaved: how columns pair up, see above.

    Raises:
        GodwitError: the tables are of other tokens, or wider than the head.
    """
    num_tokens, _, width = x_THD.shape
    if cos_TP.shape != sin_TP.shape or cos_TP.shape[0] != num_tokens:
        raise GodwitError(
            f"{num_tokens} tokens take tables of as many rows, got {tuple(cos_TP.shape)} and {tuple(sin_TP.shape)}"
        )
    if not 0 <= start <= width - 2 * cos_TP.shape[1]:
        raise GodwitError(f"columns {start} to {start + 2 * cos_TP.shape[1]} are not all in heads of width {width}")
    return _OP(x_THD, cos_TP, sin_TP, start=start, interleaved=interleaved)
