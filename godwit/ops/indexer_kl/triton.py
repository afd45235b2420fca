"""The indexer's loss on GPUs with Triton, its gradients taken at once; memory is linear in the tokens.

What has a head dimension stays in the kernels: log-sum-exps of the teachers, then their mean weights; the student's
scores (the kernel of `index_topk`), then its gradients. Between them are (queries, keys) tensors of some queries at a
time, on which the loss itself is plain torch. Gradients of keys are added in one order, the same in every run.

    d L / d I = softmax(I) - mean_l p_l

Letters: B queries of a chunk, L keys they may see (K if selected); see also the package.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from godwit.ops import _gpu
from godwit.ops._attend import add_rows
from godwit.ops._mask import as_mask
from godwit.ops.context import AttnContext
from godwit.ops.index_topk import triton as index_topk
from godwit.ops.index_topk.triton import Chunk, Plan, Scorer
from godwit.ops.indexer_kl import Form, IndexerKL, Teacher
from godwit.ops.indexer_kl._parts import Settings, scaled, target

# Numbers of a (queries, keys) tensor: 64 MB, of which some six exist at once.
WORKSPACE = 1 << 24
# Bytes of the operand that holds the teachers' lanes, and of the one with keys.
OPERAND_BYTES = 32 << 10
MOST_LANES = 128
TILE = 64
MAX_WIDTH = 1023


def why_not(
    teachers: tuple[Teacher, ...],
    q_THA: Tensor,
    k_TA: Tensor,
    w_TH: Tensor,
    context: AttnContext,
    *,
    index_TK: Tensor | None,
    form: Form,
    measure_TK: Tensor | None,
) -> str | None:
    """On a GPU, at most float32, and widths whose tiles fit the shared memory."""
    if q_THA.shape[1] > index_topk.LANES:
        return f"{q_THA.shape[1]} index heads are more than {index_topk.LANES}"
    widest = max(teacher.q_TNE.shape[2] for teacher in teachers)
    if widest > MAX_WIDTH:
        return f"a teacher's width {widest} is more than {MAX_WIDTH}"
    return _gpu.why_not("indexer_kl", q_THA, k_TA, w_TH, *(x for each in teachers for x in each[:2]))


def run(
    teachers: tuple[Teacher, ...],
    q_THA: Tensor,
    k_TA: Tensor,
    w_TH: Tensor,
    context: AttnContext,
    *,
    index_TK: Tensor | None,
    form: Form,
    measure_TK: Tensor | None,
) -> IndexerKL:
    """See `godwit.ops.indexer_kl.indexer_kl`."""
    index_TK = None if index_TK is None else index_TK.int().contiguous()
    settings = Settings(tuple(teachers), context, index_TK, form, measure_TK)
    return IndexerKL(*_Loss.apply(q_THA, k_TA, w_TH, settings))


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q_THA, k_TA, w_TH, settings):  # noqa: ANN001 (torch calls it)
        gathered = settings.index_TK is not None
        student = Scorer.of(q_THA, k_TA, w_TH, one_row=gathered)
        teaching = [_Teaching.of(teacher, one_row=gathered) for teacher in settings.teachers]
        kl_T = torch.zeros(q_THA.shape[0], dtype=torch.float32, device=q_THA.device)
        mass_T = None if settings.measure_TK is None else torch.zeros_like(kl_T)
        # Without gradients (evaluation), none are computed.
        wanted = any(ctx.needs_input_grad)
        grads = [torch.zeros(x.shape, dtype=torch.float32, device=x.device) for x in (q_THA, k_TA, w_TH) if wanted]
        with torch.cuda.device_of(q_THA):
            for chunk in _chunks(settings, q_THA.shape[2]):
                mine = slice(chunk.first, chunk.last)
                log_q_BL = student(*chunk.plan(student.rows), settings.index_TK)
                unseen_BL = log_q_BL == float("-inf")
                log_q_BL = log_q_BL.log_softmax(dim=1)
                weights = (teacher.weights(chunk, settings.index_TK) for teacher in teaching)
                p_BL, negative_entropy_B = target(weights, settings.form)
                kl_T[mine] = negative_entropy_B - (p_BL * log_q_BL.masked_fill(unseen_BL, 0.0)).sum(dim=1)
                if mass_T is not None and settings.measure_TK is not None:
                    mass_T[mine] = (p_BL * as_mask(settings.measure_TK[mine].long() - chunk.start, chunk.length)).sum(1)
                if wanted:
                    _add_gradients(student, chunk, log_q_BL.exp_().sub_(p_BL), settings.index_TK, grads)
        if wanted:
            ctx.save_for_backward(*(grad.to(x.dtype) for grad, x in zip(grads, (q_THA, k_TA, w_TH))))
        ctx.mark_non_differentiable(*(x for x in (kl_T, mass_T) if x is not None))
        return kl_T.sum(), kl_T, mass_T

    @staticmethod
    def backward(ctx, *grad_outputs):  # noqa: ANN001
        return *scaled(ctx.saved_tensors, grad_outputs[0]), None


class _Chunk(NamedTuple):
    """Queries `first:last` of the document that begins at `start`, seeing at most `length` keys (or K selected)."""

    first: int
    last: int
    start: int
    length: int
    start_T: Tensor
    visible_T: Tensor

    def num_blocks(self, size: int) -> int:
        """Blocks of `size` queries."""
        return -(-(self.last - self.first) // size)

    def plan(self, size: int) -> tuple[Plan, Chunk]:
        """The same as the scoring kernel takes it."""
        border_N = torch.arange(self.num_blocks(size) + 1, dtype=torch.int32, device=self.start_T.device)
        border_N = (border_N * size + self.first).clamp(max=self.last)
        chunk = Chunk(self.first, self.last, 0, self.num_blocks(size), self.length)
        return Plan(self.start_T, self.visible_T, border_N, [], []), chunk


def _chunks(settings: Settings, width: int) -> Iterator[_Chunk]:
    """Queries a workspace holds; where each has keys of its own, a workspace of their gradients."""
    context, index_TK = settings.context, settings.index_TK
    start_T = context.starts_T.int()
    if index_TK is not None:
        visible_T = torch.full_like(start_T, index_TK.shape[1])
        block = max(1, WORKSPACE // (index_TK.shape[1] * width))
        for first in range(0, context.num_tokens, block):
            yield _Chunk(first, min(first + block, context.num_tokens), 0, index_TK.shape[1], start_T, visible_T)
        return
    visible_T = context.positions_T.int() + 1
    for start, end in context.bounds:
        block = max(1, WORKSPACE // (end - start))
        for first in range(start, end, block):
            last = min(first + block, end)
            yield _Chunk(first, last, start, last - start, start_T, visible_T)


class _Teaching(NamedTuple):
    """A teacher's inputs as the kernels take them: `heads` heads of `rows` queries are the lanes of a program."""

    q_TNE: Tensor
    k_TGE: Tensor
    scale: float
    rows: int
    heads: int
    tile: int
    key: _gpu.Split

    @classmethod
    def of(cls, teacher: Teacher, *, one_row: bool) -> "_Teaching":
        """As many lanes as fit; heads in blocks where a group has more."""
        q_TNE, k_TGE = _gpu.common(teacher.q_TNE, teacher.k_TGE)
        key, size = _gpu.split(q_TNE.shape[2]), q_TNE.shape[1] // k_TGE.shape[1]
        fitting = max(_gpu.MIN_SIDE, OPERAND_BYTES // (key.main_side * q_TNE.element_size()))
        lanes = min(MOST_LANES, _gpu.power_of_two(fitting + 1) // 2)
        heads = min(lanes, _gpu.side(size) if one_row else _gpu.power_of_two(size))
        return cls(q_TNE, k_TGE, teacher.scale, 1 if one_row else lanes // heads, heads, min(TILE, lanes), key)

    def weights(self, chunk: _Chunk, index_TK: Tensor | None) -> Tensor:
        """Softmax weights, mean over the heads, `(B, L)`."""
        from godwit.ops.indexer_kl._triton import teacher_means, teacher_sums

        (plan, _), (num_heads, num_groups) = chunk.plan(self.rows), (self.q_TNE.shape[1], self.k_TGE.shape[1])
        blocks = -(-num_heads // num_groups // self.heads)
        num_queries, device = chunk.last - chunk.first, self.q_TNE.device
        lse_BN = torch.empty(num_queries, num_heads, dtype=torch.float32, device=device)
        p_BL = torch.empty(num_queries, chunk.length, dtype=torch.float32, device=device)
        inputs = (self.q_TNE, self.k_TGE, index_TK, plan.start_Q, plan.visible_Q, plan.border_N, lse_BN)
        num_picked = 0 if index_TK is None else index_TK.shape[1]
        shape = (num_picked, self.scale, num_heads, num_groups, blocks, self.key.main, self.key.rest)
        sides = {
            "ROWS": self.rows, "HEADS": self.heads, "MAIN": self.key.main_side, "REST": self.key.rest_side,
            "TILE": self.tile, "GATHERED": index_TK is not None, "num_warps": 8, "num_stages": 2,
        }  # fmt: skip
        num_blocks = chunk.num_blocks(self.rows)
        teacher_sums[(num_blocks, num_groups * blocks)](*inputs, chunk.first, *shape, **sides)
        teacher_means[(num_blocks, -(-chunk.length // self.tile))](
            *inputs, p_BL, chunk.first, chunk.length, *shape, **sides
        )  # fmt: skip
        return p_BL


def _add_gradients(
    student: Scorer, chunk: _Chunk, dscore_BL: Tensor, index_TK: Tensor | None, grads: list[Tensor]
) -> None:
    """Gradients of the chunk's queries and weights, written, and of keys, added to `grads`."""
    from godwit.ops.indexer_kl._triton import student_keys, student_queries

    dq_THA, dk_TA, dw_TH = grads
    plan, num_blocks = chunk.plan(student.rows)[0], chunk.num_blocks(student.rows)
    num_heads, width = student.q_QHD.shape[1:]
    inputs = (*student[:3], index_TK, plan.start_Q, plan.visible_Q, plan.border_N, dscore_BL)
    num_picked = 0 if index_TK is None else index_TK.shape[1]
    shape = (chunk.first, chunk.length, num_picked, num_heads, width)
    sides = {
        "ROWS": student.rows, "HEADS": student.heads, "WIDTH": _gpu.side(width), "GATHERED": index_TK is not None,
        "TILE": _gpu.MIN_SIDE if student.q_QHD.dtype == torch.float32 else TILE, "num_warps": 8, "num_stages": 2,
    }  # fmt: skip
    num_tiles = -(-chunk.length // sides["TILE"])
    student_queries[(num_blocks,)](*inputs, dq_THA, dw_TH, *shape, **sides)
    if index_TK is None:
        student_keys[(1, num_tiles)](*inputs, dk_TA, *shape, num_blocks, **sides)
        return
    gift_NA = torch.empty(dscore_BL.numel(), width, dtype=torch.float32, device=dscore_BL.device)
    student_keys[(num_blocks, num_tiles)](*inputs, gift_NA, *shape, 1, **sides)
    add_rows([dk_TA], [gift_NA], index_TK[chunk.first : chunk.last])
