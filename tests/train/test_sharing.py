"""Shared indexers in training: who teaches them, how a run gets a plan, and what it does with a checkpoint's."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from godwit.base.errors import GodwitError
from godwit.base.runs import RunFolder
from godwit.models import weights
from godwit.models.init import build
from godwit.models.teaching import IndexLoss
from godwit.ops.indexer_kl import indexer_kl
from godwit.train.config import Stage, TrainConfig
from godwit.train.distil import freeze_all_but_indexers, starting_from
from godwit.train.loop import train
from godwit.train.objective import MicroBatch, Objective, Scales
from tests.train.test_distil import sparse_model
from tests.train.test_equivalence import _batch
from tests.train.tiny import tiny_config

CPU = torch.device("cpu")
PLAN = "FSSF"


def shared_model(**changes: Any) -> Any:
    """Four layers, the first three with one indexer; weights so large that attention differs between layers."""
    types = tuple({"F": "full", "S": "shared"}[letter] for letter in PLAN)
    values = {"num_hidden_layers": 4, "indexer_types": types, "initializer_range": 0.25}
    return sparse_model(**(values | changes))


def taught(form: IndexLoss, *, dense: bool, recompute: bool = False) -> tuple[dict[str, torch.Tensor], Any]:
    """Gradients of the indexers and the losses, of one batch with two prediction depths."""
    model = build(shared_model(), seed=1)
    freeze_all_but_indexers(model)
    objective = Objective(model, ce_chunk_tokens=20, recompute=recompute)
    micro = MicroBatch.of(_batch([30, 4, 16], seed=3), mtp_depths=2, device=CPU)
    scales = Scales.of(micro.counts(), mtp_weight=0.3, balance_weight=0.01)
    losses = objective(micro, scales, dense=dense, trains="indexers", index_loss=form)
    losses.total.backward()
    return {name: p.grad for name, p in objective.model.named_parameters() if p.grad is not None}, losses


@pytest.mark.parametrize("dense", [True, False])
def test_multi_and_mean_have_equal_gradients_and_single_another(dense: bool) -> None:
    (multi, _), (mean, _), (single, _) = (taught(form, dense=dense) for form in ("multi", "mean", "single"))
    assert len(multi) == 15 and multi.keys() == mean.keys() == single.keys()
    for name, gradient in multi.items():
        torch.testing.assert_close(mean[name], gradient, atol=1e-7, rtol=1e-4)
    # Layer 3 serves itself alone: whoever teaches, its lesson is the same. Layer 0 and the prediction layer share.
    alone = {name for name in multi if name.startswith("model.layers.3.")}
    assert len(alone) == 5
    for name, gradient in multi.items():
        close = torch.allclose(single[name], gradient, atol=1e-7, rtol=1e-4)
        assert close == (name in alone), name


def test_recomputing_layers_leaves_the_mean_form_alone() -> None:
    (kept, _), (again, _) = (taught("mean", dense=False, recompute=recompute) for recompute in (False, True))
    for name, gradient in kept.items():
        torch.testing.assert_close(again[name], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("dense", [True, False])
def test_multi_and_mean_differ_in_value_by_the_divergence_of_the_layers_from_their_mean(dense: bool) -> None:
    """Mean KL(p_j || mean p): the Jensen-Shannon term of each group, here from the layers' attention itself."""
    model = build(shared_model(), seed=1)
    micro = MicroBatch.of(_batch([30, 4, 16], seed=3), mtp_depths=0, device=CPU)
    seen = _lessons(model, micro, dense=dense)
    expected = 0.0
    for served in (range(3), range(3, 4)):
        teachers = [seen[layer].lesson.teacher for layer in served]
        states, index_TK = seen[served[0]].lesson.states, seen[served[0]].index_TK
        multi, mean = (
            indexer_kl(teachers, *states, micro.context, index_TK=index_TK, form=form).loss
            for form in ("multi", "mean")
        )
        expected += (multi - mean).item()
    losses = {
        form: model.features(micro.tokens_T, micro.context, dense=dense, teach=True, index_loss=form).index_losses
        for form in ("multi", "mean", "single")
    }
    assert expected > 0.01
    assert (losses["multi"].loss - losses["mean"].loss).item() == pytest.approx(expected, rel=1e-4)
    assert losses["multi"].kl_L.shape == (4,) and losses["mean"].kl_L.shape == losses["single"].kl_L.shape == (2,)
    kl_L = losses["multi"].kl_L
    torch.testing.assert_close(losses["multi"].loss, kl_L[:3].mean() + kl_L[3])
    torch.testing.assert_close(losses["single"].kl_L, kl_L[[0, 3]])
    torch.testing.assert_close(losses["single"].loss, kl_L[0] + kl_L[3])


def _lessons(model: Any, micro: MicroBatch, *, dense: bool) -> list[Any]:
    """Each layer's output with its lesson, caught on the way."""
    seen: list[Any] = []
    hooks = [layer.register_forward_hook(lambda _, __, output: seen.append(output)) for layer in model.blocks()[:4]]
    model.features(micro.tokens_T, micro.context, dense=dense, teach=True)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.fixture(scope="module")
def all_full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose layers all have an indexer."""
    folder = tmp_path_factory.mktemp("full") / "model"
    config = shared_model(indexer_types=())
    weights.save(build(config, seed=2), config, folder)
    return folder


def sharing_config(text: Path, init_from: Path, **changes: Any) -> TrainConfig:
    """Four steps for the indexers of a model in a folder."""
    stage = Stage(name="warmup", tokens=4 * 256, seq_len=64, trains="indexers")
    values: dict[str, Any] = {"model": shared_model(), "stages": (stage,), "eval_every": 2, "checkpoint_every": 0}
    return starting_from(tiny_config(text, **(values | changes)), init_from)


def indexers_in(folder: Path) -> set[int]:
    """Layers with an indexer in a checkpoint."""
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return {int(name.split(".")[2]) for name in file.keys() if ".indexer." in name}  # noqa: SIM118 (no dict)


def test_a_plan_drops_the_shared_layers_indexers_and_the_result_is_taken_as_it_is(
    all_full: Path, text_folder: Path, tmp_path: Path
) -> None:
    config = sharing_config(text_folder, all_full, plan=PLAN)
    assert config.model.plan.pattern == PLAN
    result = train(config, tmp_path / "run", device="cpu")
    folder = result.folder / "model"
    # The prediction layer, number 4, keeps its own.
    assert indexers_in(all_full) == {0, 1, 2, 3, 4} and indexers_in(folder) == {0, 3, 4}
    assert json.loads((folder / "config.json").read_text())["indexer_types"] == ["full", "shared", "shared", "full"]
    before, after = weights.load(all_full), weights.load(folder)
    kept = dict(before.named_parameters())
    for name, parameter in after.named_parameters():
        assert torch.equal(parameter, kept[name]) == (".indexer." not in name), name
    # A recipe's plan is for models that have none; what is shared already stays so, and can be thinned further.
    again = sharing_config(text_folder, folder, plan="1/2")
    assert again.plan is None and again.model.plan.pattern == PLAN
    thinner = dataclasses.replace(again, plan="FSSS")
    assert indexers_in(train(thinner, tmp_path / "thinner", device="cpu").folder / "model") == {0, 4}
    row = [row for row in RunFolder(result.folder).read_metrics() if "index_recall" in row][-1]
    recall = row["index_recall"]
    assert len(recall) == 4 and row["index_recall_worst"] == [min(recall[:3]), recall[3]]
    page = (result.folder / "report.html").read_text()
    assert "Attention recalled" in page and "<td>0 to 2</td>" in page and f"plan {PLAN}" in page


def test_layers_without_an_indexer_cannot_get_one_back(all_full: Path, text_folder: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    model = weights.load(all_full, plan=PLAN)
    weights.save(model, model.config, shared)
    config = dataclasses.replace(sharing_config(text_folder, shared), plan="FFSF")
    with pytest.raises(GodwitError, match=r"layers \[1\] of .* cannot be F; of the plan FFSF it can be FSSF"):
        train(config, tmp_path / "run", device="cpu")
    with pytest.raises(GodwitError, match="has 3 letters and the model 4 layers"):
        weights.load(all_full, plan="FSF")
    with pytest.raises(GodwitError, match="no indexers, so there is nothing to share; godwit convert"):
        tiny_config(text_folder, plan="FSS")
    with pytest.raises(GodwitError, match="begin with F"):
        sharing_config(text_folder, all_full, plan="SFFF")
