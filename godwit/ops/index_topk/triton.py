"""Selection on GPUs with Triton: scores of some queries in a workspace, then their best by radix selection.

The workspace holds as many rows as fit `WORKSPACE`, so memory does not grow with the square of the document, and work
is cut into blocks of queries that never change a score. For decoding, the queries of all documents are one launch.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from godwit.ops import _gpu
from godwit.ops.context import AttnContext
from godwit.ops.index_topk._rows import Rows, rows

# Scores held at once: 128 MB. At 131,072 tokens these are 256 queries, enough for every processor to have a row.
WORKSPACE = 1 << 25
# Query heads that share a tile of keys, and keys of a tile: the largest product whose sums stay in registers. Without
# tensor cores (float32) the operands are there too.
LANES = 128
TILE, TILE_FLOAT32 = 128, 32
# Scores a row reads at once while selecting.
SELECT_TILE = 2048


def why_not(q_QHD: Tensor, k_TD: Tensor, w_QH: Tensor, *_args, **_kwargs) -> str | None:
    """On a GPU, at most float32, and heads that fit one product."""
    if q_QHD.shape[1] > LANES:
        return f"{q_QHD.shape[1]} index heads are more than {LANES}"
    return _gpu.why_not("index_topk", q_QHD, k_TD, w_QH)


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
    from godwit.ops.index_topk._triton import select

    width, device = min(topk, context.max_seqlen), q_QHD.device
    index_QK = torch.full((q_QHD.shape[0], width), -1, dtype=torch.int32, device=device)
    scorer = Scorer.of(q_QHD, k_TD, w_QH)
    plan = Plan.of(rows(context, query_seqlens), scorer.rows, device)
    with torch.cuda.device_of(q_QHD):
        for chunk in plan.chunks(WORKSPACE):
            score_BL = scorer(plan, chunk)
            select[(chunk.last - chunk.first,)](
                score_BL, plan.start_Q, plan.visible_Q, index_QK, chunk.first, chunk.length, width,
                TILE=min(SELECT_TILE, max(256, _gpu.power_of_two(chunk.length))),
            )  # fmt: skip
    return index_QK


class Chunk(NamedTuple):
    """Queries `first:last`, blocks `block:block_end`, which see at most `length` keys each."""

    first: int
    last: int
    block: int
    block_end: int
    length: int


class Plan(NamedTuple):
    """Queries cut into blocks of one document each.

    Attributes:
        start_Q: int32, flat position at which the query's document begins.
        visible_Q: int32, positions the query sees.
        border_N: int32, first query of each block, and the number of queries.
        borders: the same on the host.
        lengths: positions that the last query of each block sees.
    """

    start_Q: Tensor
    visible_Q: Tensor
    border_N: Tensor
    borders: list[int]
    lengths: list[int]

    @classmethod
    def of(cls, parts: list[Rows], size: int, device: torch.device) -> "Plan":
        """Blocks of at most `size` queries; the parts' queries lie one after another."""
        borders, lengths, starts, visible = [0], [], [torch.zeros(0)], [torch.zeros(0)]
        for part in parts:
            ends = [min(first + size, part.last) for first in range(part.first, part.last, size)]
            borders += ends
            lengths += [part.num_before + end - part.first for end in ends]
            starts.append(torch.full((part.last - part.first,), part.start))
            visible.append(torch.arange(part.num_before + 1, part.end - part.start + 1))
        start_Q, visible_Q = torch.cat(starts).int().to(device), torch.cat(visible).int().to(device)
        return cls(start_Q, visible_Q, torch.tensor(borders, dtype=torch.int32, device=device), borders, lengths)

    def chunks(self, workspace: int) -> Iterator[Chunk]:
        """Runs of blocks whose queries times the longest row fit the workspace; at least one block each."""
        block = 0
        while block < len(self.lengths):
            block_end, length = block + 1, self.lengths[block]
            while block_end < len(self.lengths):
                longest = max(length, self.lengths[block_end])
                if (self.borders[block_end + 1] - self.borders[block]) * longest > workspace:
                    break
                block_end, length = block_end + 1, longest
            yield Chunk(self.borders[block], self.borders[block_end], block, block_end, length)
            block = block_end


class Scorer(NamedTuple):
    """Inputs of the scoring kernel and how it cuts them: `rows` queries to a block."""

    q_QHD: Tensor
    k_TD: Tensor
    w_QH: Tensor
    rows: int
    heads: int

    @classmethod
    def of(cls, q_QHD: Tensor, k_TD: Tensor, w_QH: Tensor, *, one_row: bool = False) -> "Scorer":
        """For blocks of several queries, or of one where each has keys of its own."""
        heads = _gpu.side(q_QHD.shape[1]) if one_row else _gpu.power_of_two(q_QHD.shape[1])
        q_QHD, k_TD = _gpu.common(q_QHD, k_TD)
        return cls(q_QHD, k_TD, w_QH.detach().float().contiguous(), 1 if one_row else LANES // heads, heads)

    def __call__(self, plan: Plan, chunk: Chunk, index_QK: Tensor | None = None) -> Tensor:
        """Scores of a chunk, `(chunk.last - chunk.first, chunk.length)`, -inf at what a query does not see."""
        from godwit.ops.index_topk._triton import scores

        num_heads, width = self.q_QHD.shape[1:]
        tile = TILE_FLOAT32 if self.q_QHD.dtype == torch.float32 else TILE
        score_BL = self.w_QH.new_empty(chunk.last - chunk.first, chunk.length)
        grid = (chunk.block_end - chunk.block, -(-chunk.length // tile))
        scores[grid](
            self.q_QHD, self.k_TD, self.w_QH, index_QK, plan.start_Q, plan.visible_Q, plan.border_N[chunk.block :],
            score_BL, chunk.first, chunk.length, num_heads, width, ROWS=self.rows, HEADS=self.heads,
            WIDTH=_gpu.side(width), TILE=tile, GATHERED=index_QK is not None, num_warps=8,
        )  # fmt: skip
        return score_BL
