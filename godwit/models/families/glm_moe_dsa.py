"""GLM-5, 5.1, 5.2: latent attention with a lightning indexer whose choice layers may share, mixture of experts.

Defaults are GLM-5's (arXiv 2602.15763, table 10; `glm_moe_dsa` in Transformers). Which layers share is settled in this
order: `indexer_types` > `index_topk_pattern` ("FSSF..." or a list) > `index_topk_freq` with `index_skip_topk_offset`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from godwit.models.latent import SparseConfig
from godwit.nn.share_plan import SharePlan


@dataclass(frozen=True, kw_only=True)
class Config(SparseConfig):
    """`glm_moe_dsa`."""

    architecture: ClassVar[str] = "GlmMoeDsaForCausalLM"

    model_type: str = "glm_moe_dsa"
    vocab_size: int = 154880
    hidden_size: int = 6144
    intermediate_size: int = 12288
    moe_intermediate_size: int = 2048
    num_hidden_layers: int = 78
    num_attention_heads: int = 64
    num_key_value_heads: int = 64
    n_routed_experts: int = 256
    routed_scaling_factor: float = 2.5
    first_k_dense_replace: int = 3
    q_lora_rank: int | None = 2048
    max_position_embeddings: int = 202752

    @classmethod
    def _special_from_hf(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        special = super()._special_from_hf(raw)
        if "indexer_types" not in special:
            layers = raw.get("num_hidden_layers", cls.num_hidden_layers)
            pattern = raw.get("index_topk_pattern")
            if pattern is not None:
                plan = SharePlan.parse(pattern, layers)
            else:
                freq = max(raw.get("index_topk_freq") or 1, 1)
                offset = raw.get("index_skip_topk_offset")
                plan = SharePlan.from_freq(layers, freq, 2 if offset is None else offset)
            special["indexer_types"] = plan.types
        return special
