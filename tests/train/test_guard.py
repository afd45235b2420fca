"""Gradient norms by group, clipping, and names found when a number is not one."""

import math

import pytest
import torch
from torch import nn

from godwit.base.errors import RunStoppedError
from godwit.dist.world import World
from godwit.models.init import build
from godwit.train.guard import clip_gradients, gradient_norms, group_of, stop_if_not_finite
from tests.train.test_distil import sparse_model
from tests.train.tiny import tiny_model

WORLD = World()


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("model.embed_tokens.weight", "embedding"),
        ("lm_head.weight", "head"),
        ("model.layers.0.self_attn.q_a_layernorm.weight", "norm"),
        ("model.layers.3.enorm.weight", "norm"),
        ("model.layers.0.self_attn.kv_b_proj.weight", "attention"),
        ("model.layers.1.mlp.gate.weight", "router"),
        ("model.layers.1.mlp.experts.down_proj", "experts"),
        ("model.layers.1.mlp.shared_experts.up_proj.weight", "feed_forward"),
        ("model.layers.0.mlp.gate_proj.weight", "feed_forward"),
        ("model.layers.3.eh_proj.weight", "other"),
    ],
)
def test_groups(name: str, group: str) -> None:
    assert group_of(name) == group


def _with_gradients() -> nn.Module:
    model = build(tiny_model(), seed=0)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def test_norm_equals_that_of_torch_and_clipping_bounds_it() -> None:
    model = _with_gradients()
    norms = gradient_norms(model.named_parameters(), WORLD)
    expected = nn.utils.get_total_norm(
        [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    )
    assert norms.total == pytest.approx(expected.item(), rel=1e-6)
    clip_gradients(model.named_parameters(), norms.groups, 0.0)
    clip_gradients(model.named_parameters(), norms.groups, norms.total + 1)
    assert gradient_norms(model.named_parameters(), WORLD).total == norms.total
    clip_gradients(model.named_parameters(), norms.groups, 1.0)
    assert gradient_norms(model.named_parameters(), WORLD).total == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("loud", [True, False])
def test_indexers_and_the_rest_are_clipped_apart(loud: bool) -> None:
    """A loss that grows out of hand on one side leaves the other side's gradients as they are."""
    model = build(sparse_model(), seed=0)
    for name, parameter in model.named_parameters():
        parameter.grad = torch.full_like(parameter, 10.0 if (".indexer." in name) == loud else 1e-4)
    before = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    clip_gradients(model.named_parameters(), gradient_norms(model.named_parameters(), WORLD).groups, 1.0)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, before[name]) == ((".indexer." in name) != loud), name
    after = gradient_norms(model.named_parameters(), WORLD).groups
    clipped = [norm for group, norm in after.items() if (group == "indexer") == loud]
    assert math.hypot(*clipped) == pytest.approx(1.0, rel=1e-4)


def test_names_the_first_parameter_concerned() -> None:
    model = _with_gradients()
    bad = model.get_parameter("model.layers.2.mlp.gate.weight")
    assert bad.grad is not None
    bad.grad[0, 0] = math.inf
    named = list(model.named_parameters())
    norm = gradient_norms(named, WORLD).total
    assert not math.isfinite(norm)
    with pytest.raises(
        RunStoppedError, match=r"step 4: the gradient of model\.layers\.2\.mlp\.gate\.weight is not finite"
    ):
        stop_if_not_finite(named, step=4, loss=1.0, norm=norm, world=WORLD)


def test_names_the_loss_if_only_that_is_bad() -> None:
    named = list(_with_gradients().named_parameters())
    stop_if_not_finite(named, step=1, loss=1.0, norm=2.0, world=WORLD)
    with pytest.raises(RunStoppedError, match=r"step 1: the loss \(nan\) is not finite"):
        stop_if_not_finite(named, step=1, loss=math.nan, norm=2.0, world=WORLD)
