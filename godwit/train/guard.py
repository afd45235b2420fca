"""Gradient norms, clipping, and the stop when something is no longer a number.

The check costs nothing extra: a NaN or Inf anywhere in the gradients makes the global norm non-finite. Only then are
names searched. The step is refused *before* the optimiser touches the weights.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from godwit.base.errors import RunStoppedError
from godwit.dist.parallelize import group_norms, local
from godwit.dist.world import World

GROUPS = ("embedding", "attention", "indexer", "router", "experts", "feed_forward", "norm", "head", "other")
"""Kinds of parameters whose gradient norms are logged apart; the MTP layer's count with their kind."""


class GradNorms(NamedTuple):
    """Global norm before clipping, and that of each group that has gradients."""

    total: float
    groups: dict[str, float]


def group_of(name: str) -> str:
    """The entry of `GROUPS` a parameter's name belongs to."""
    parts = name.split(".")
    if "embed_tokens" in parts:
        return "embedding"
    if "lm_head" in parts:
        return "head"
    if "indexer" in parts:
        return "indexer"
    if any(part.endswith("norm") for part in parts):
        return "norm"
    if "self_attn" in parts:
        return "attention"
    if "gate" in parts:
        return "router"
    if "experts" in parts:
        return "experts"
    return "feed_forward" if "mlp" in parts else "other"


def gradient_norms(named_parameters: Iterable[tuple[str, nn.Parameter]], world: World) -> GradNorms:
    """Norms of the gradients over all ranks. One small all-reduce and one copy from the device."""
    by_group: dict[str, list[Tensor]] = {group: [] for group in GROUPS}
    for name, parameter in named_parameters:
        if parameter.grad is not None:
            by_group[group_of(name)].append(parameter.grad)
    present = {group: grads for group, grads in by_group.items() if grads}
    norms = group_norms(present, world).tolist()
    return GradNorms(math.sqrt(sum(norm * norm for norm in norms)), dict(zip(present, norms)))


def clip_gradients(
    named_parameters: Iterable[tuple[str, nn.Parameter]], norms: Mapping[str, float], limit: float
) -> None:
    """Scale gradients so that their global norm is at most `limit`; 0 leaves them as they are.

    Indexers are clipped by their own norm and the rest by its own: each learns from its own loss, and neither loss may
    shrink the other's steps. `norms` are those of `GradNorms.groups`.
    """
    grads: dict[bool, list[Tensor]] = {False: [], True: []}
    for name, parameter in named_parameters:
        if parameter.grad is not None:
            grads[group_of(name) == "indexer"].append(local(parameter.grad))
    for indexers, members in grads.items():
        own = (norm for group, norm in norms.items() if (group == "indexer") == indexers)
        norm = math.sqrt(sum(norm * norm for norm in own))
        if limit and norm > limit:
            torch._foreach_mul_(members, limit / norm)


def stop_if_not_finite(
    named_parameters: Iterable[tuple[str, nn.Parameter]], *, step: int, loss: float, norm: float, world: World
) -> None:
    """Raise `RunStoppedError` with the step and the first parameter concerned if `loss` or `norm` is NaN or Inf."""
    if math.isfinite(loss) and math.isfinite(norm):
        return
    bad = [
        name
        for name, parameter in named_parameters
        if parameter.grad is not None and not local(parameter.grad).isfinite().all()
    ]
    names = next((names for names in world.gather(bad) if names), [])
    if names:
        what = f"the gradient of {names[0]}" + (f" and of {len(names) - 1} more" if len(names) > 1 else "")
    else:
        what = f"the loss ({loss})" if not math.isfinite(loss) else "the sum of squares of the gradients"
    raise RunStoppedError(
        f"step {step}: {what} is not finite (loss {loss:.4g}); the weights were not changed and the checkpoints before "
        "are intact. Lower --optim.lr or --grad-clip and start again"
    )
