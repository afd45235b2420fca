"""Tiny random models in which it matters who selects: large weights, few positions kept, peaked attention."""

from typing import Any

import torch

from godwit.models.decoder import Decoder
from godwit.models.families.glm_moe_dsa import Config
from godwit.models.init import build

TOPK = 8
SEQ_LEN = 48


def config(**changes: Any) -> Config:
    """Eight layers (or as asked) of width 32, one dense, the others with four experts."""
    values: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "moe_intermediate_size": 24,
        "num_hidden_layers": 8,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "routed_scaling_factor": 1.5,
        "first_k_dense_replace": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 12,
        "qk_rope_head_dim": 4,
        "v_head_dim": 16,
        "index_topk": TOPK,
        "index_n_heads": 16,
        "index_head_dim": 8,
        "max_position_embeddings": 256,
        "num_nextn_predict_layers": 0,
        # 7 times the usual: attention is peaked and layers change what passes through them.
        "initializer_range": 0.15,
    }
    return Config(**(values | changes))


def model(*, seed: int = 0, **changes: Any) -> Decoder:
    """A random model."""
    return build(config(**changes), seed=seed).eval()


def tokens(*, rows: int = 2, length: int = SEQ_LEN, seed: int = 1, vocab_size: int = 64) -> list[torch.Tensor]:
    """Random calibration rows."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, vocab_size, (length,), generator=generator) for _ in range(rows)]
