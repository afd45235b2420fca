"""Attention over gathered rows in Triton, with its gradients, for the operations that differ in what a row is.

Letters: Q queries, T rows, H heads, G key-value heads, D key width, E value width, K selected positions, B queries of a
chunk.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from godwit.ops import _gpu

# Numbers of the queries' gifts to their rows that are held at once: 128 MB.
WORKSPACE = 1 << 25
# Bytes that the operands of one query's heads and of one tile of rows may take: three of these fit the 163 KB of shared
# memory that a program can have on an A100 (227 KB on an H100).
OPERAND_BYTES = 48 << 10
MOST_HEADS = 64
MOST_ROWS = 64
ADD_WIDTH = 1024


class Shape(NamedTuple):
    """Numbers that all kernels take, in their order, and the sides of their tiles."""

    num_heads: int
    num_groups: int
    num_picked: int
    key: _gpu.Split
    value: int
    shared: bool

    @property
    def numbers(self) -> tuple[int, ...]:
        """The kernels' arguments from `num_heads` on."""
        return self.num_heads, self.num_groups, self.num_picked, self.key.main, self.key.rest, self.value

    def tiles(self, item_size: int, *, picked: bool, most_heads: int = MOST_HEADS) -> dict[str, int | bool]:
        """The kernels' constants: as many heads and rows as fit, for numbers of some bytes."""
        fitting = OPERAND_BYTES // (item_size * max(self.key.main_side, _gpu.side(self.value)))
        fitting = max(_gpu.MIN_SIDE, _gpu.power_of_two(fitting + 1) // 2)
        sides = {
            "HEADS": min(most_heads, fitting, _gpu.side(self.num_heads // self.num_groups)),
            "MAIN": self.key.main_side,
            "REST": self.key.rest_side,
            "VALUE": self.key.main_side if self.shared else _gpu.side(self.value),
            "TILE": min(MOST_ROWS, fitting, _gpu.side(self.num_picked)),
            "SHARED": self.shared,
            "num_warps": 8,
            # Where what is loaded next would not fit the shared memory beside what is worked on, nothing is.
            "num_stages": 2 if picked and item_size < 4 else 1,
        }
        return {**sides, "PICKED": _gpu.power_of_two(self.num_picked)} if picked else sides


class Attended(NamedTuple):
    """Outputs `(Q, H, E)` in the dtype of the queries, and log-sum-exp, float32, `(Q, H)`."""

    out_QHE: Tensor
    lse_QH: Tensor


def attend(q_QHD: Tensor, k_TGD: Tensor, v_TGE: Tensor | int, index_QK: Tensor, *, scale: float) -> Attended:
    """Attention over `index_QK`, differentiable in q, k and v; for `v_TGE` a number, the keys' first so many numbers.

    Gradients flow from the log-sum-exp too.
    """
    shared = v_TGE if isinstance(v_TGE, int) else None
    values = None if isinstance(v_TGE, int) else v_TGE
    return Attended(*_Attend.apply(q_QHD, k_TGD, values, index_QK.int().contiguous(), scale, shared))


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q_QHD, k_TGD, v_TGE, index_QK, scale, shared):  # noqa: ANN001 (torch calls it)
        from godwit.ops._attend_triton import forward

        inputs = _gpu.common(*(x for x in (q_QHD, k_TGD, v_TGE) if x is not None))
        q, k, v = (*inputs, inputs[1])[:3]
        value = v.shape[2] if shared is None else shared
        shape = Shape(
            q.shape[1], k.shape[1], index_QK.shape[1], _gpu.split(q.shape[2], shared), value, shared is not None
        )
        out_QHE = q_QHD.new_empty(*q.shape[:2], value)
        lse_QH = torch.empty(q.shape[:2], dtype=torch.float32, device=q.device)
        tiles = shape.tiles(q.element_size(), picked=True)
        if q.shape[0]:
            with torch.cuda.device_of(q):
                forward[_grid(shape, q.shape[0], tiles)](
                    q, k, v, index_QK, out_QHE, lse_QH, scale, *shape.numbers, **tiles
                )
        ctx.save_for_backward(q, k, v, index_QK, out_QHE, lse_QH)
        ctx.shape, ctx.scale = shape, scale
        ctx.dtypes = [None if x is None else x.dtype for x in (q_QHD, k_TGD, v_TGE)]
        return out_QHE, lse_QH

    @staticmethod
    def backward(ctx, dout_QHE, dlse_QH):  # noqa: ANN001  # pyrefly: ignore[bad-override]
        q, k, v, index_QK, out_QHE, lse_QH = ctx.saved_tensors
        delta_QH = (dout_QHE.float() * out_QHE.float()).sum(dim=-1) - dlse_QH
        inputs = (q, k, v, index_QK, dout_QHE.to(q.dtype).contiguous(), lse_QH, delta_QH.contiguous())
        grads: list[Tensor | None] = [None, None, None]
        with torch.cuda.device_of(q):
            if ctx.needs_input_grad[0]:
                grads[0] = _query_gradient(inputs, ctx.shape, ctx.scale)
            if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
                grads[1:] = _row_gradients(inputs, ctx.shape, ctx.scale)
        typed = [None if dtype is None or x is None else x.to(dtype) for x, dtype in zip(grads, ctx.dtypes)]
        return *typed, None, None, None


def _grid(shape: Shape, num_queries: int, tiles: dict[str, int | bool]) -> tuple[int, int, int]:
    """Queries, blocks of the heads of a group, groups."""
    return num_queries, -(-shape.num_heads // shape.num_groups // tiles["HEADS"]), shape.num_groups


def _query_gradient(inputs: tuple[Tensor, ...], shape: Shape, scale: float) -> Tensor:
    from godwit.ops._attend_triton import backward_queries

    q = inputs[0]
    # Queries, their outputs' gradients and sums are all as large as the queries.
    tiles = shape.tiles(q.element_size(), picked=True, most_heads=MOST_HEADS // 2)
    dq_QHD = torch.empty(q.shape, dtype=torch.float32, device=q.device)
    if q.shape[0]:
        backward_queries[_grid(shape, q.shape[0], tiles)](
            *inputs, dq_QHD, scale, *shape.numbers, **tiles
        )  # fmt: skip
    return dq_QHD


def _row_gradients(inputs: tuple[Tensor, ...], shape: Shape, scale: float) -> list[Tensor | None]:
    """Gradients of keys and values, float32: some queries' gifts to their rows, added in order, then the next."""
    from godwit.ops._attend_triton import backward_rows

    q, k, v, index_QK = inputs[:4]
    tiles = shape.tiles(q.element_size(), picked=False, most_heads=MOST_HEADS // 2)
    wide = [k] if shape.shared else [k, v]
    grads = [torch.zeros(x.shape, dtype=torch.float32, device=x.device) for x in wide]
    block = max(1, WORKSPACE // (shape.num_picked * sum(x[0].numel() for x in wide)))
    for first in range(0, q.shape[0], block):
        chosen_BK = index_QK[first : first + block]
        gifts = [torch.empty(chosen_BK.numel(), *x.shape[1:], dtype=torch.float32, device=x.device) for x in wide]
        grid = (chosen_BK.shape[0], -(-shape.num_picked // tiles["TILE"]), shape.num_groups)
        backward_rows[grid](
            *inputs, gifts[0], gifts[-1], first, scale, *shape.numbers, **tiles
        )  # fmt: skip
        add_rows(grads, gifts, chosen_BK)
    return [*grads, None][:2]


def add_rows(targets: list[Tensor], rows: list[Tensor], place_BK: Tensor) -> None:
    """Add row n of each of `rows` to `target[place[n]]`, -1 to none, lower n first: the same bits in every run."""
    from godwit.ops import _attend_triton as kernels

    place_N, order_N = place_BK.flatten().sort(stable=True)
    for target, row in zip(targets, rows, strict=True):
        width = target[0].numel()
        side = min(ADD_WIDTH, _gpu.power_of_two(width))
        kernels.add_rows[(place_N.numel(), -(-width // side))](
            target, row, place_N, order_N, place_N.numel(), width, WIDTH=side
        )  # fmt: skip
