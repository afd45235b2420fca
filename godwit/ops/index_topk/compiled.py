"""Selection compiled with numba, for CPUs: scores and selection fused, panel by panel of the keys (see `_kernel`).

Nothing of size T x T is ever stored. A score does not depend on which other queries or keys are at hand, so prefill,
prefill in chunks and decoding choose bit-equally the same.
"""

import torch
from torch import Tensor

from godwit.ops._padded import padded
from godwit.ops._threads import match_threads
from godwit.ops.context import AttnContext
from godwit.ops.index_topk._rows import rows


def why_not(q_QHD: Tensor, *_args, **_kwargs) -> str | None:
    """float32 (or half, which is widened) on a CPU."""
    if q_QHD.device.type != "cpu":
        return f"device {q_QHD.device.type} is no CPU"
    if torch.promote_types(q_QHD.dtype, torch.float32) != torch.float32:
        return f"dtype {q_QHD.dtype} is wider than float32"
    return None


def run(
    q_QHD: Tensor,
    k_TD: Tensor,
    w_QH: Tensor,
    context: AttnContext,
    *,
    topk: int,
    query_seqlens: tuple[int, ...] | None = None,
) -> Tensor:
    """See `godwit.ops.index_topk.index_topk`."""
    index_QK = torch.empty(q_QHD.shape[0], min(topk, context.max_seqlen), dtype=torch.int32)
    q, w, index = pad_queries(q_QHD).numpy(), pad_weights(w_QH).numpy(), index_QK.numpy()
    # numba takes a second to import; only those who select pay for it.
    from godwit.ops.index_topk._kernel import PANEL, STRIDE, select

    threads = match_threads()
    for part in rows(context, query_seqlens):
        mine = slice(part.first, part.last)
        k_LD = k_TD[part.start : part.end]
        panels, sample = in_panels(k_LD, PANEL).numpy(), in_panels(k_LD[::STRIDE], PANEL).numpy()
        select(threads, q[mine], w[mine], panels, sample, part.num_before, part.start, index[mine])
    return index_QK


def pad_queries(q_QHD: Tensor) -> Tensor:
    """float32, contiguous, with an even number of heads; zeros change no score."""
    return padded(q_QHD.float(), (0, 0, 0, q_QHD.shape[1] % 2)).contiguous()


def pad_weights(w_QH: Tensor) -> Tensor:
    """Head weights to go with `pad_queries`."""
    return padded(w_QH.float(), (0, w_QH.shape[1] % 2)).contiguous()


def in_panels(k_LD: Tensor, width: int) -> Tensor:
    """Keys as float32 panels `(ceil(L / width), D, width)`, zeros behind the last."""
    padded_LD = padded(k_LD.float(), (0, 0, 0, -k_LD.shape[0] % width))
    return padded_LD.unflatten(0, (-1, width)).transpose(1, 2).contiguous()
