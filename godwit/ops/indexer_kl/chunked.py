"""The loss block by block of queries, with the gradients taken at once: memory is linear in the tokens.

A block's scores exist only while it is worked on, and a block has so few queries that its largest tensor holds about
`BLOCK_NUMBERS` numbers. What stays for the backward pass is the gradients of index queries, keys and weights, as large
as these themselves; nothing is computed a second time.

    d L / d I = softmax(I) - mean_l p_l;   d L / d w[t, j] = sum_s dI r;   d L / d dots = dI w [dots > 0]

Selected positions are gathered where they are few; else a mask over all keys up to the block's end is faster. (On CPUs
`compiled` takes them.)
Letters: Q queries of a block, L keys they are scored against, X = 1 (the same keys for all queries) or Q (gathered).
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from godwit.ops._mask import as_mask
from godwit.ops.context import AttnContext
from godwit.ops.indexer_kl import Form, IndexerKL, Teacher
from godwit.ops.indexer_kl._parts import Settings, scaled, target

BLOCK_NUMBERS = 1 << 19
MOST_QUERIES = 128
GATHER_BEYOND = 32
"""Times K a document must be long before gathering pays: a product with all keys has no copies to make."""


def why_not(*_args, **_kwargs) -> None:
    """Plain torch: it takes everything."""


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
    settings = Settings(tuple(teachers), context, index_TK, form, measure_TK)
    return IndexerKL(*_Loss.apply(q_THA, k_TA, w_TH, settings))


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q_THA, k_TA, w_TH, settings):  # noqa: ANN001 (torch calls it)
        wide = torch.promote_types(q_THA.dtype, torch.float32)
        inputs = [x.to(wide) for x in (q_THA, k_TA, w_TH)]
        # Without gradients (evaluation), none are computed.
        grads = [torch.zeros_like(x) for x in inputs] if any(ctx.needs_input_grad) else None
        kl_T = inputs[0].new_zeros(settings.context.num_tokens)
        mass_T = None if settings.measure_TK is None else torch.zeros_like(kl_T)
        for block in _blocks(settings, q_THA.shape[1]):
            rows = slice(block.first, block.last)
            positive_QHL = _positive(block, inputs)
            score_QL = torch.einsum("qhl,qh->ql", positive_QHL, inputs[2][rows])
            log_q_QL = score_QL.masked_fill_(~block.seen_QL, float("-inf")).log_softmax(1)
            weights = (_attention(block, teacher, wide) for teacher in settings.teachers)
            p_QL, negative_entropy_Q = target(weights, settings.form)
            kl_T[rows] = negative_entropy_Q - (p_QL * log_q_QL.masked_fill(~block.seen_QL, 0.0)).sum(1)
            if mass_T is not None and settings.measure_TK is not None:
                mass_T[rows] = (p_QL * _mask(block, settings.measure_TK)).sum(1)
            if grads is not None:
                _add_gradients(block, log_q_QL.exp_().sub_(p_QL), positive_QHL, inputs, grads)
        if grads is not None:
            ctx.save_for_backward(*(grad.to(x.dtype) for grad, x in zip(grads, (q_THA, k_TA, w_TH))))
        ctx.mark_non_differentiable(*(x for x in (kl_T, mass_T) if x is not None))
        return kl_T.sum(), kl_T, mass_T

    @staticmethod
    def backward(ctx, *grad_outputs):  # noqa: ANN001
        return *scaled(ctx.saved_tensors, grad_outputs[0]), None


class _Block(NamedTuple):
    """Queries `first:last` of the document that begins at `start`.

    Their keys are those of the document up to `last`, or, with `index_QK`, each query's own selection. `seen_QL` says
    which of them count.
    """

    start: int
    first: int
    last: int
    seen_QL: Tensor
    index_QK: Tensor | None

    def keys(self, x: Tensor) -> Tensor:
        """Rows of `x` (T, ...) for the keys, `(X, L, ...)`."""
        return x[self.start : self.last].unsqueeze(0) if self.index_QK is None else x[self.index_QK]


def _blocks(settings: Settings, num_heads: int) -> Iterator[_Block]:
    """Runs of queries, shorter the more keys they see."""
    index_TK = settings.index_TK
    heads = max(num_heads, *(teacher.q_TNE.shape[1] for teacher in settings.teachers))
    widths = max(teacher.k_TGE.shape[1] * teacher.k_TGE.shape[2] for teacher in settings.teachers)
    for start, end in settings.context.bounds:
        first = start
        gathers = index_TK is not None and end - start > GATHER_BEYOND * index_TK.shape[1]
        while first < end:
            if gathers and index_TK is not None:
                numbers = index_TK.shape[1] * max(heads, widths)
            else:
                # Keys reach up to the block's last query.
                numbers = heads * (first - start + MOST_QUERIES)
            last = min(first + max(1, min(MOST_QUERIES, BLOCK_NUMBERS // numbers)), end)
            yield _block(start, first, last, index_TK, settings.context.device, gathers=gathers)
            first = last


def _block(
    start: int, first: int, last: int, index_TK: Tensor | None, device: torch.device, *, gathers: bool
) -> _Block:
    query_Q1 = torch.arange(first, last, device=device).unsqueeze(1)
    block = _Block(start, first, last, torch.arange(start, last, device=device) <= query_Q1, None)
    if index_TK is None:
        return block
    if not gathers:
        return block._replace(seen_QL=_mask(block, index_TK))
    index_QK = index_TK[first:last].long()
    return block._replace(seen_QL=index_QK >= 0, index_QK=index_QK.clamp(min=0))


def _mask(block: _Block, index_TK: Tensor) -> Tensor:
    """Positions as a mask over the keys up to the block's last query, `(Q, L)`."""
    return as_mask(index_TK[block.first : block.last].long() - block.start, block.last - block.start)


def _positive(block: _Block, inputs: list[Tensor]) -> Tensor:
    """ReLU of index queries times keys, `(Q, H, L)`."""
    return torch.einsum("qha,xla->qhl" if block.index_QK is None else "qha,qla->qhl", *_pair(block, inputs)).relu_()


def _pair(block: _Block, inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
    return inputs[0][block.first : block.last], block.keys(inputs[1])


def _attention(block: _Block, teacher: Teacher, wide: torch.dtype) -> Tensor:
    """A teacher's attention, mean over heads, `(Q, L)`."""
    groups = teacher.k_TGE.shape[1]
    q_QGRE = teacher.q_TNE[block.first : block.last].detach().to(wide).unflatten(1, (groups, -1)) * teacher.scale
    k_XLGE = block.keys(teacher.k_TGE.detach()).to(wide)
    dots_QGRL = torch.einsum("qgre,xlge->qgrl" if block.index_QK is None else "qgre,qlge->qgrl", q_QGRE, k_XLGE)
    return dots_QGRL.masked_fill_(~block.seen_QL[:, None, None], float("-inf")).softmax(3).mean((1, 2))


def _add_gradients(
    block: _Block, dscore_QL: Tensor, positive_QHL: Tensor, inputs: list[Tensor], grads: list[Tensor]
) -> None:
    """Gradients of the block's queries, keys and weights, added to `grads`."""
    dq_THA, dk_TA, dw_TH = grads
    rows = slice(block.first, block.last)
    q_QHA, k_XLA = _pair(block, inputs)
    dw_TH[rows] = torch.einsum("qhl,ql->qh", positive_QHL, dscore_QL)
    ddots_QHL = (positive_QHL > 0) * dscore_QL.unsqueeze(1) * inputs[2][rows].unsqueeze(2)
    if block.index_QK is None:
        dq_THA[rows] = torch.einsum("qhl,la->qha", ddots_QHL, k_XLA.squeeze(0))
        dk_TA[block.start : block.last] += torch.einsum("qhl,qha->la", ddots_QHL, q_QHA)
        return
    dq_THA[rows] = torch.einsum("qhl,qla->qha", ddots_QHL, k_XLA)
    dk_QLA = torch.einsum("qhl,qha->qla", ddots_QHL, q_QHA)
    # Entries for -1 point at position 0 and hold zeros.
    dk_TA.index_add_(0, block.index_QK.flatten(), dk_QLA.flatten(0, 1))
