"""Attention over selected positions on GPUs with Triton, forward and backward: reads only what was selected."""

from torch import Tensor

from godwit.ops import _gpu
from godwit.ops._attend import attend
from godwit.ops.context import AttnContext
from godwit.ops.sparse_attention import Attended

# The widest sums that the registers of one program hold.
MAX_WIDTH = 512


def why_not(
    q_THD: Tensor,
    k_TGD: Tensor,
    v_TGE: Tensor,
    index_TK: Tensor,
    context: AttnContext,
    *,
    scale: float,
    with_lse: bool = False,
) -> str | None:
    """On a GPU, at most float32, keys and values whose sums fit the registers."""
    if max(q_THD.shape[2], v_TGE.shape[2]) > MAX_WIDTH:
        return f"key width {q_THD.shape[2]} or value width {v_TGE.shape[2]} is more than {MAX_WIDTH}"
    return _gpu.why_not("sparse_attention", q_THD, k_TGD, v_TGE)


def run(
    q_THD: Tensor,
    k_TGD: Tensor,
    v_TGE: Tensor,
    index_TK: Tensor,
    context: AttnContext,
    *,
    scale: float,
    with_lse: bool = False,
) -> Attended:
    """See `godwit.ops.sparse_attention.sparse_attention`."""
    out_THE, lse_TH = attend(q_THD, k_TGD, v_TGE, index_TK, scale=scale)
    return Attended(out_THE, lse_TH if with_lse else None)
