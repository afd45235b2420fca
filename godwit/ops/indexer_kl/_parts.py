"""What the block-wise backends of the loss say alike: their settings, the target, and the backward pass."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from godwit.ops.context import AttnContext
from godwit.ops.indexer_kl import Form, Teacher


class Settings(NamedTuple):
    """Everything but the student's tensors, for an autograd function."""

    teachers: tuple[Teacher, ...]
    context: AttnContext
    index_TK: Tensor | None
    form: Form
    measure_TK: Tensor | None


def target(weights: Iterable[Tensor], form: Form) -> tuple[Tensor, Tensor]:
    """Mean of the teachers' attention `(Q, L)`, and the sum of p log p that the loss's form takes, `(Q,)`."""
    total_QL = negative_entropy_Q = None
    count = 0
    for p_QL in weights:
        own_Q = torch.xlogy(p_QL, p_QL).sum(1)
        total_QL = p_QL if total_QL is None else total_QL + p_QL
        negative_entropy_Q = own_Q if negative_entropy_Q is None else negative_entropy_Q + own_Q
        count += 1
    assert total_QL is not None and negative_entropy_Q is not None, "there is a teacher"
    mean_QL = total_QL / count
    if form == "mean":
        return mean_QL, torch.xlogy(mean_QL, mean_QL).sum(1)
    return mean_QL, negative_entropy_Q / count


def scaled(gradients: Iterable[Tensor], factor: Tensor) -> tuple[Tensor, ...]:
    """Gradients taken in the forward pass, times what comes back."""
    return tuple(grad * factor.to(grad.dtype) for grad in gradients)
