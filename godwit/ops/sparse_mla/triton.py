"""Absorbed attention on GPUs with Triton, forward and backward: a gathered row serves all heads as key and value."""

from torch import Tensor

from godwit.ops import _gpu
from godwit.ops._attend import attend
from godwit.ops.sparse_mla import LatentAttended

# The widest sums (heads times latent width, in float32) that the registers of one program hold.
MAX_LATENT = 512


def why_not(q_QHW: Tensor, c_TW: Tensor, index_QK: Tensor, *, scale: float, latent_width: int) -> str | None:
    """On a GPU, at most float32, with a latent row whose sums fit the registers."""
    if latent_width > MAX_LATENT:
        return f"latent width {latent_width} is more than {MAX_LATENT}"
    return _gpu.why_not("sparse_mla", q_QHW, c_TW)


def run(q_QHW: Tensor, c_TW: Tensor, index_QK: Tensor, *, scale: float, latent_width: int) -> LatentAttended:
    """See `godwit.ops.sparse_mla.sparse_mla`."""
    return LatentAttended(*attend(q_QHW, c_TW.unsqueeze(1), latent_width, index_QK, scale=scale))
