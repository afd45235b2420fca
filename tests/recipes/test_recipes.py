"""Every recipe resolves, the published ones have the published size, and the smoke ones really train."""

import pytest

from godwit.base.errors import GodwitError
from godwit.base.files import read_json
from godwit.base.runs import RunFolder
from godwit.models.count import count
from godwit.models.weights import load
from godwit.recipes import ROOM, find, variants
from godwit.train.loop import train

ALL = [f"{name}:{variant}" for name in ROOM.names() for variant in variants(name)]


@pytest.mark.parametrize("recipe", ALL)
def test_every_variant_resolves(recipe: str) -> None:
    config = find(recipe)
    assert config.total_tokens > 0
    assert count(config.model).total > 0


@pytest.mark.parametrize("name", ["glm45", "glm5"])
def test_published_systems_have_paper_small_and_smoke(name: str) -> None:
    assert {"paper", "small", "smoke"} <= set(variants(name))


def test_published_token_plans() -> None:
    """GLM-4.5: 15T + 7T + 0.5T + 0.5T + 0.1T; GLM-5: 27T + 1T + 0.5T + 0.05T (28.5T in the report, rounded)."""
    assert find("glm45:paper").total_tokens == 23_100_000_000_000
    assert find("glm5:paper").total_tokens == 28_550_000_000_000


def test_nano_is_a_few_million_parameters_with_everything_on() -> None:
    config = find("nano")
    assert 2e6 < count(config.model).total < 8e6
    assert config.model.num_nextn_predict_layers == 1 and config.mtp_depths >= 1
    assert config.optim.matrices == "muon" and config.optim.muon.split
    assert config.model.n_routed_experts > 1 and config.bias_update_rate.values[0] > 0


@pytest.mark.parametrize("name", ROOM.names())
def test_smoke_trains_to_a_checkpoint_that_loads(name: str, tmp_path) -> None:
    config = find(f"{name}:smoke")
    result = train(config, tmp_path / "run", device="cpu")
    rows = [row for row in RunFolder(tmp_path / "run").read_metrics() if "loss" in row]
    assert rows[-1]["loss"] < rows[0]["loss"]
    model = load(result.folder / "model")
    assert model.config.hidden_size == config.model.hidden_size
    assert model.config.rope_theta == (config.stages[-1].rope_theta or config.model.rope_theta)
    assert read_json(tmp_path / "run" / "model" / "config.json")["model_type"] == config.model.model_type
    assert "<svg" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("recipe", "message"), [("glm5x", "did you mean 'glm5'"), ("glm5:papr", "did you mean 'paper'")]
)
def test_misspelt_recipes_are_answered(recipe: str, message: str) -> None:
    with pytest.raises(GodwitError, match=message):
        find(recipe)


def test_index_sharing_trains_as_published() -> None:
    """IndexCache: 1,000 steps of warm-up and 4,000 sparse ones at 200K; 47 layers keep 12 indexers at 1/4."""
    warmup, sparse = find("indexcache:paper_warmup"), find("indexcache:paper")
    assert [config.total_tokens // config.batch_tokens for config in (warmup, sparse)] == [1000, 4000]
    for config in (warmup, sparse):
        assert config.model.num_hidden_layers == 47 and config.model.plan.num_full == 12
        assert config.stages[0].seq_len > 200_000 and config.stages[0].index_loss == "multi"
    assert warmup.freezes and sparse.stages[0].attention == "sparse" and sparse.stages[0].trains == "both"


@pytest.mark.parametrize("name", ["dsa:sparse_warmup", "dsa:nano_sparse_warmup"])
def test_the_sparse_warm_up_never_attends_densely(name: str) -> None:
    config = find(name)
    assert config.freezes and {stage.attention for stage in config.stages} == {"sparse"}
