"""Blocks of rows against the columns they can see, and nothing else: matrix products on the library, no T x T mask.

For a head, the kept keys and values are gathered once, in order of position. A block of B rows then takes the gathered
ones before its window, by a prefix of that list, and one slice of the document from the start of its first row's window
to its last row. Only two triangles of B x B need a mask: left, where the window of the later rows has moved on (a kept
column stays seen), and right, where positions lie after the row. Heads that keep every column are dense attention.

Letters: L tokens of one document, N kept columns of one head, B rows of a block, M positions of a block's slice,
X = columns before it and slice together; see also the package.
"""

import torch
from torch import Tensor

from godwit.ops.attention import attention
from godwit.ops.context import AttnContext
from godwit.ops.sample_attention._stripes import Stripes

ROWS = 128


def why_not(
    q_THD: Tensor, k_TGD: Tensor, v_TGE: Tensor, stripes: Stripes, context: AttnContext, *, scale: float
) -> str | None:
    """A loop over heads and blocks in Python: on a GPU its launches would cost more than they save."""
    if q_THD.device.type != "cpu":
        return f"device {q_THD.device.type} is no CPU"
    return None


def run(q_THD: Tensor, k_TGD: Tensor, v_TGE: Tensor, stripes: Stripes, context: AttnContext, *, scale: float) -> Tensor:
    """See `godwit.ops.sample_attention.stripe_attention`."""
    num_heads, num_groups = q_THD.shape[1], k_TGD.shape[1]
    wide = torch.promote_types(q_THD.dtype, torch.float32)
    documents = [q_THD.new_empty(0, num_heads, v_TGE.shape[2])]
    for (start, end), window in zip(context.bounds, stripes.window_S, strict=True):
        # Rows of one head side by side in memory, for the matrix products.
        q_HLD = (q_THD[start:end].to(wide) * scale).transpose(0, 1).contiguous()
        k_GLD = k_TGD[start:end].to(wide).transpose(0, 1).contiguous()
        v_GLE = v_TGE[start:end].to(wide).transpose(0, 1).contiguous()
        heads = []
        for head in range(num_heads):
            group = head * num_groups // num_heads
            own = q_HLD[head], k_GLD[group], v_GLE[group]
            keep_L = stripes.keep_TH[start:end, head]
            heads.append(_dense(*own) if keep_L.all() else _head(*own, keep_L, min(window, end - start)))
        documents.append(torch.stack(heads, dim=1).to(q_THD.dtype))
    return torch.cat(documents)


def _dense(q_LD: Tensor, k_LD: Tensor, v_LE: Tensor) -> Tensor:
    """One head of one document that sees all there is, queries scaled already: `(L, E)`."""
    context = AttnContext.single(q_LD.shape[0], q_LD.device)
    return attention(q_LD.unsqueeze(1), k_LD.unsqueeze(1), v_LE.unsqueeze(1), context, scale=1.0).squeeze(1)


def _head(q_LD: Tensor, k_LD: Tensor, v_LE: Tensor, keep_L: Tensor, window: int) -> Tensor:
    """One head of one document, queries scaled already: `(L, E)`."""
    length = q_LD.shape[0]
    column_N = keep_L.nonzero().squeeze(1)
    k_ND, v_NE = k_LD[column_N], v_LE[column_N]
    low = [max(0, first - window + 1) for first in range(0, length, ROWS)]
    num_before = torch.searchsorted(column_N, torch.tensor(low, device=q_LD.device)).tolist()
    later_BB = torch.ones(ROWS, ROWS, dtype=torch.bool, device=q_LD.device).triu(1)
    outputs = []
    for first, start, before in zip(range(0, length, ROWS), low, num_before, strict=True):
        last = min(first + ROWS, length)
        rows = last - first
        k_XD = torch.cat((k_ND[:before], k_LD[start:last]))
        v_XE = torch.cat((v_NE[:before], v_LE[start:last]))
        score_BX = q_LD[first:last] @ k_XD.T
        # The slice's column c is out of row r's window if c < r, counted from where the first row's window would begin.
        cut = window - 1 - first + start
        if cut < rows - 1:
            left_BE = later_BB[:rows, :rows].T[:, cut : rows - 1] & ~keep_L[start : start + rows - 1 - cut]
            score_BX[:, before : before + rows - 1 - cut].masked_fill_(left_BE, float("-inf"))
        score_BX[:, -rows:].masked_fill_(later_BB[:rows, :rows], float("-inf"))
        outputs.append(score_BX.softmax(dim=-1) @ v_XE)
    return torch.cat(outputs)
