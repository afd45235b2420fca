"""Random tiny models of every family, built twice from the same weights: here and in Transformers."""

from typing import Any

import torch
import transformers

from godwit.models.decoder import Decoder
from godwit.models.families import config_from_hf
from godwit.models.init import build, empty

COMMON = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 4,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 512,
    "num_nextn_predict_layers": 0,
    "routed_scaling_factor": 2.5,
    "first_k_dense_replace": 1,
}
LATENT = {
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
}
INDEX = {"index_topk": 24, "index_n_heads": 16, "index_head_dim": 16}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}
GQA = {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16, "partial_rotary_factor": 0.5}

PLAIN = {key: COMMON[key] for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")}
PLAIN |= {"max_position_embeddings": 512, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16}
PLAIN_YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
PLAIN_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

# name -> Hugging Face config. Each family several times, each time with another corner.
CASES: dict[str, dict[str, Any]] = {
    "glm45": dict(model_type="glm4_moe", **COMMON, **GQA, attention_bias=True, use_qk_norm=True),
    "glm45-air": dict(model_type="glm4_moe", **COMMON, **GQA, attention_bias=True, use_qk_norm=False),
    "glm45-tied": dict(model_type="glm4_moe", **COMMON, **GQA, tie_word_embeddings=True, norm_topk_prob=False),
    "flash": dict(model_type="glm4_moe_lite", **COMMON, **LATENT),
    "flash-groups": dict(model_type="glm4_moe_lite", **COMMON, **LATENT, n_group=4, topk_group=2),
    "flash-direct-query": dict(
        model_type="glm4_moe_lite", **COMMON, **(LATENT | {"q_lora_rank": None, "v_head_dim": 24})
    ),
    "deepseek-v3": dict(
        model_type="deepseek_v3", **COMMON, **LATENT, n_group=4, topk_group=2, rope_parameters=YARN, rms_norm_eps=1e-5
    ),
    "llama": dict(model_type="llama", **PLAIN),
    "llama-bias": dict(model_type="llama", **PLAIN, attention_bias=True, rope_parameters=PLAIN_YARN),
    "llama-31": dict(model_type="llama", **PLAIN, rope_parameters=PLAIN_LLAMA3),
    "llama-tied": dict(model_type="llama", **(PLAIN | {"head_dim": None}), tie_word_embeddings=True),
    "qwen3": dict(model_type="qwen3", **PLAIN, rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
    "qwen3-tied": dict(model_type="qwen3", **PLAIN, attention_bias=True, tie_word_embeddings=True),
    "glm5": dict(model_type="glm_moe_dsa", **COMMON, **LATENT, **INDEX),
    "glm5-pattern": dict(
        model_type="glm_moe_dsa", **COMMON, **LATENT, **INDEX, indexer_types=["full", "shared", "full", "shared"]
    ),
    "glm52": dict(
        model_type="glm_moe_dsa", **COMMON, **LATENT, **INDEX, indexer_types=["full", "full", "full", "shared"]
    ),
    "deepseek": dict(model_type="deepseek_v32", **COMMON, **LATENT, **INDEX, n_group=4, topk_group=2),
    "deepseek-yarn": dict(
        model_type="deepseek_v32", **COMMON, **LATENT, **INDEX, n_group=2, topk_group=1, rope_parameters=YARN
    ),
}
# Families of our own: what `godwit convert` makes of grouped-query models. Transformers has nothing to compare with.
OWN_CASES: dict[str, dict[str, Any]] = {
    "glm45-dsa": dict(model_type="glm4_moe_dsa", **COMMON, **GQA, **INDEX, attention_bias=True, use_qk_norm=True),
    "llama-dsa": dict(model_type="llama_dsa", **PLAIN, **INDEX, attention_bias=True),
    "qwen3-dsa": dict(
        model_type="qwen3_dsa",
        **PLAIN,
        **INDEX,
        indexer_types=["full", "shared", "shared", "full"],
        tie_word_embeddings=True,
    ),
}


def transformers_model(case: str, *, seed: int = 0) -> transformers.PreTrainedModel:
    """The case in Transformers, every weight random (norms, biases and router corrections too)."""
    raw = dict(CASES[case])
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(raw.pop("model_type"), **raw)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("inv_freq"):
                continue
            noise = torch.randn_like(tensor)
            tensor.copy_(1 + 0.1 * noise if name.endswith("norm.weight") else 0.1 * noise)
    return model


def our_model(theirs: transformers.PreTrainedModel) -> Decoder:
    """The same weights in our decoder, through config and state dict."""
    ours = empty(config_from_hf(theirs.config.to_dict()), dtype=torch.float32, device="cpu").eval()
    state = {name: tensor for name, tensor in theirs.state_dict().items() if not name.endswith("inv_freq")}
    if ours.config.tie_word_embeddings:
        del state["lm_head.weight"]
    ours.load_state_dict(state)
    return ours


def spread_model(case: str, **changes: object) -> Decoder:
    """Here alone, with logits spread enough that choosing among them means something."""
    model = build(config_from_hf((CASES | OWN_CASES)[case] | changes), seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model
