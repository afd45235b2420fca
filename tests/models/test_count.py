"""Parameter counts against the published figures and the real decoder; FLOPs and bytes against counting by hand."""

import time

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.models.count import count, flops_per_token, memory
from godwit.models.decoder import Decoder
from godwit.models.families import config_from_hf
from godwit.models.flops import mean_keys
from godwit.models.init import build
from godwit.models.published import PUBLISHED, glm5, glm45, glm45_air, glm47_flash, glm52, published
from godwit.optim.build import build_optimizer
from godwit.optim.config import OptimConfig
from tests.models.parity import CASES, OWN_CASES

MTP = {"num_nextn_predict_layers": 1}


def billions(number: float) -> float:
    return round(number / 1e9, 1)


def test_published_figures() -> None:
    """355B-A32B, 106B-A12B, 30B-A3B, 744B-A40B, each in its report's own convention (the module docstring has them)."""
    assert (billions(count(glm45()).without_embeddings), billions(count(glm45()).active)) == (355.2, 32.0)
    air = count(glm45_air())
    assert (billions(air.without_embeddings), billions(air.decoder), billions(air.active)) == (108.0, 105.6, 12.2)
    assert (billions(count(glm47_flash()).without_mtp), billions(count(glm47_flash()).active)) == (29.9, 3.3)
    large = count(glm5())
    assert (billions(large.without_mtp), billions(large.without_embeddings), billions(large.active)) == (
        743.9,
        752.0,
        39.8,
    )


LLAMA_31_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
QWEN3_8B = {
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "rope_theta": 1000000,
    "rope_scaling": None,
    "sliding_window": None,
    "use_sliding_window": False,
}


def test_published_figures_of_models_that_can_be_converted() -> None:
    """Llama 3.1 8B: 8.03B; Qwen3-8B: 8.19B, 6.95B without embeddings; DeepSeek-V3: 671B."""
    llama, qwen = count(config_from_hf(LLAMA_31_8B)), count(config_from_hf(QWEN3_8B))
    assert (round(llama.total / 1e9, 2), llama.active) == (8.03, llama.decoder)
    assert (round(qwen.total / 1e9, 2), round(qwen.decoder / 1e9, 2)) == (8.19, 6.95)
    large = count(config_from_hf({"model_type": "deepseek_v3", "num_nextn_predict_layers": 1}))
    assert billions(large.without_mtp) == 671.0


def test_shared_layers_own_no_indexer() -> None:
    each = 2048 * 32 * 128 + 6144 * 128 + 6144 * 32 + 2 * 128
    assert count(glm5()).indexers == 78 * each and count(glm52()).indexers == 21 * each
    assert count(glm5()).total - count(glm52()).total == 57 * each


def test_the_largest_shape_is_counted_in_no_time() -> None:
    start = time.process_time()
    count(glm5())
    assert time.process_time() - start < 2


# Only families with experts have a prediction layer.
@pytest.mark.parametrize(
    ("case", "extra"),
    [
        (case, extra)
        for case, raw in (CASES | OWN_CASES).items()
        for extra in ({}, MTP)
        if not extra or "n_routed_experts" in raw
    ],
)
def test_counts_are_those_of_the_decoder(case: str, extra: dict) -> None:
    config = config_from_hf((CASES | OWN_CASES)[case] | extra)
    with torch.device("meta"):
        model = Decoder(config)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    counts = count(config)
    assert counts.total == sum(sizes.values())
    assert counts.embeddings == sum(size for name, size in sizes.items() if "embed_tokens" in name or "lm_head" in name)
    assert counts.mtp == sum(size for name, size in sizes.items() if name.startswith("model.layers.4."))
    assert counts.mtp > 0 or not extra
    moe = [name for name in sizes if ".mlp.experts." in name or ".mlp.gate." in name]
    idle = sum(sizes[name] for name in moe if ".layers.4." not in name) * 6 // 8
    assert counts.active == counts.decoder - idle


def test_mean_keys_is_the_average_over_positions() -> None:
    assert mean_keys(7) == sum(range(1, 8)) / 7
    assert mean_keys(9, 4) == sum(min(position, 4) for position in range(1, 10)) / 9
    assert mean_keys(3, 4) == 2


def test_flops_of_a_latent_model_by_hand() -> None:
    config = config_from_hf(CASES["glm52"])
    flops = flops_per_token(config, 100)
    projections = 48 * 24 + 24 * 4 * 20 + 48 * (16 + 8) + 16 * 4 * (12 + 16) + 4 * 16 * 48
    assert flops.attention_projections == 2 * 4 * projections
    assert flops.attention_core == pytest.approx(2 * 4 * 4 * (20 + 16) * mean_keys(100, 24))
    indexer = 24 * 16 * 16 + 48 * 16 + 48 * 16 + 16 * 16 * 50.5
    assert flops.indexer == 2 * 3 * indexer  # three of four layers have one
    assert flops.dense_mlp == 2 * 3 * 48 * 80
    assert flops.experts == 2 * 3 * (8 * 48 + (2 + 1) * 3 * 48 * 32)
    assert flops.head == 2 * 97 * 48 and flops.mtp == 0
    assert flops.training == 3 * flops.forward


def test_flops_grow_with_length_only_where_attention_is() -> None:
    config = config_from_hf(CASES["glm5"])
    short, long = flops_per_token(config, 200), flops_per_token(config, 2000)
    assert (short.experts, short.head, short.dense_mlp) == (long.experts, long.head, long.dense_mlp)
    assert long.attention_core < 1.1 * short.attention_core and long.indexer > 4 * short.indexer
    dense = flops_per_token(config, 2000, dense=True)
    assert dense.indexer == 0 and dense.attention_core > 9 * short.attention_core
    assert flops_per_token(config, 24).indexer == 0  # everything is selected, so nothing is scored


def test_each_prediction_depth_costs_a_layer_and_a_head() -> None:
    config = config_from_hf(CASES["glm45"] | MTP)
    one, three = flops_per_token(config, 64, num_mtp_depths=1), flops_per_token(config, 64, num_mtp_depths=3)
    assert three.mtp == pytest.approx(3 * one.mtp) and one.mtp > one.head + 2 * 2 * 48 * 48
    assert three.forward - one.forward == pytest.approx(2 * one.mtp)
    with pytest.raises(GodwitError, match="num_nextn_predict_layers"):
        flops_per_token(config_from_hf(CASES["glm45"]), 64, num_mtp_depths=1)
    with pytest.raises(GodwitError, match="sequence length"):
        flops_per_token(config, 0)


def test_cache_per_token() -> None:
    assert memory(glm45_air()).cache_per_token == 46 * 2 * 8 * 128 * 2
    assert memory(glm5()).cache_per_token == 78 * (512 + 64 + 128) * 2
    assert memory(glm52()).index_cache_per_token == 21 * 128 * 2
    assert memory(glm52(), cache_bytes=1).cache_per_token == 78 * 576 + 21 * 128


def test_weight_bytes() -> None:
    total, needed = count(glm5()).total, memory(glm5())
    assert (needed.weights_float32, needed.weights_bfloat16) == (4 * total, 2 * total)
    assert 1.0 * total < needed.weights_fp8 < 1.01 * total


@pytest.mark.parametrize("case", ["glm45", "glm52"])
def test_training_state_is_what_the_optimizer_holds(case: str) -> None:
    model = build(config_from_hf(CASES[case] | MTP))
    optimizer = build_optimizer(model.named_parameters(), OptimConfig(), matrix_splits=model.matrix_splits())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    held = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    num_bytes = sum(value.nbytes for value in held if value.ndim)
    parameters = sum(parameter.nbytes for parameter in model.parameters())
    assert memory(model.config).training_state == num_bytes + 2 * parameters


def test_published_names() -> None:
    assert published("glm-4.5-air") == glm45_air()
    for name in PUBLISHED:
        shape = published(name)
        assert config_from_hf(shape.to_hf()) == shape
    with pytest.raises(GodwitError, match=r"GLM-4\.5-Air"):
        published("GLM-4.5-Aire")
