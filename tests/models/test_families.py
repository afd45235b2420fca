"""Configs: Hugging Face in and out, precedence of sharing keys, contradictions."""

import dataclasses

import pytest
import transformers

from godwit.base.errors import GodwitError
from godwit.models.families import FAMILIES, config_from_hf
from tests.models.parity import CASES


@pytest.mark.parametrize("case", CASES)
def test_configs_survive_the_way_through_transformers(case: str, tmp_path) -> None:
    config = config_from_hf(CASES[case])
    raw = config.to_hf()
    theirs = transformers.AutoConfig.for_model(**raw)
    theirs.save_pretrained(tmp_path)
    assert config_from_hf(transformers.AutoConfig.from_pretrained(tmp_path).to_dict()) == config
    assert config_from_hf(raw) == config


def test_what_engines_with_one_class_for_many_families_are_told() -> None:
    """vLLM's DeepSeek class builds another router, and indexers that rotate otherwise, where config.json is silent."""
    for case, interleave in (("glm5", True), ("deepseek", False)):
        raw = config_from_hf(CASES[case]).to_hf()
        assert (raw["topk_method"], raw["scoring_func"]) == ("noaux_tc", "sigmoid")
        assert raw["indexer_rope_interleave"] is interleave
    assert config_from_hf(CASES["flash"]).to_hf()["topk_method"] == "noaux_tc"
    half = config_from_hf(CASES["glm5"] | {"indexer_rope_interleave": False})
    indexer = half.indexer(0)
    assert indexer is not None and not indexer.rope_interleaved
    assert config_from_hf(half.to_hf()) == half != config_from_hf(CASES["glm5"])
    shared = {"num_nextn_predict_layers": 1, "indexer_types": ["full", "shared"] * 2}
    assert config_from_hf(CASES["glm5"] | shared).to_hf()["index_share_for_mtp_iteration"] is True


@pytest.mark.parametrize("family", sorted(set(FAMILIES.names()) & set(transformers.CONFIG_MAPPING)))
def test_defaults_are_transformers_defaults(family: str) -> None:
    ours = FAMILIES.load(family).Config()
    theirs = transformers.AutoConfig.for_model(family).to_dict()
    # MTP layers are no business of Transformers, RoPE bases it leaves to the checkpoint, token ids to the tokenizer.
    skipped = {
        "num_nextn_predict_layers",
        "rope_theta",
        "rope_scaling",
        "eos_token_id",
        "pad_token_id",
        "indexer_types",
        "indexer_rope_interleave",  # Transformers' two classes have one layout each, and no key
    }
    skipped |= {"first_k_dense_replace"} if family == "glm4_moe_lite" else set()
    skipped |= {"attention_bias", "head_dim", "partial_rotary_factor"} if family == "glm4_moe" else set()
    names = {field.name for field in dataclasses.fields(ours)} - skipped
    assert {name: getattr(ours, name) for name in names} == {name: theirs[name] for name in names}


@pytest.mark.parametrize(
    ("keys", "pattern"),
    [
        ({}, "FFFF"),
        ({"index_topk_freq": 2}, "FFSF"),
        ({"index_topk_freq": 2, "index_skip_topk_offset": 1}, "FSFS"),
        ({"index_topk_freq": 2, "index_topk_pattern": "FSSF"}, "FSSF"),
        ({"index_topk_pattern": ["full", "shared", "full", "shared"]}, "FSFS"),
        ({"index_topk_pattern": "FSSF", "indexer_types": ["full"] * 3 + ["shared"]}, "FFFS"),
        ({"index_topk_pattern": None, "index_topk_freq": None, "index_skip_topk_offset": None}, "FFFF"),
    ],
)
def test_precedence_of_sharing_keys(keys: dict, pattern: str) -> None:
    raw = {key: value for key, value in CASES["glm5"].items() if key != "indexer_types"} | keys
    ours = config_from_hf(raw)
    assert ours.plan.pattern == pattern
    theirs = transformers.AutoConfig.for_model(**{key: value for key, value in raw.items() if value is not None})
    assert list(ours.indexer_types) == theirs.indexer_types


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "glm_moe_dsb"}, "did you mean 'glm_moe_dsa'"),
        ({"model_type": None}, "no model_type"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu' is not supported"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok must lie in 1..8"),
        ({"n_group": 3}, "must split into n_group 3"),
        ({"num_key_value_heads": 2}, "must equal num_attention_heads"),
        ({"indexer_types": ["shared"] + ["full"] * 3}, "must begin with F"),
        ({"indexer_types": ["full"] * 3}, "has 3 letters and the model 4 layers"),
        ({"mlp_layer_types": ["sparse", "dense", "sparse", "sparse"]}, "dense layers first"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "rope type 'llama3'"),
        ({"hidden_size": "big"}, "config.json.hidden_size: expected a whole number"),
        ({"vocab_size": 97.5}, "config.json.vocab_size: expected a whole number"),
        ({"rope_parameters": 3}, "config.json.rope_parameters: expected an object"),
        ({"mlp_layer_types": 7}, "config.json.mlp_layer_types: expected a list"),
        ({"eos_token_id": "x"}, "config.json.eos_token_id"),
        ({"first_k_dense_replace": True}, "config.json.first_k_dense_replace: expected a whole number"),
        ({"index_topk": 0}, "index_topk must be positive"),
        ({"first_k_dense_replace": 5}, "first_k_dense_replace must lie in 0..4"),
        ({"num_nextn_predict_layers": 3}, "must be 0 or 1"),
    ],
)
def test_contradictions_are_named(changes: dict, message: str) -> None:
    with pytest.raises(GodwitError, match=message):
        config_from_hf(CASES["glm5"] | changes)
