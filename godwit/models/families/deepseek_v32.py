"""DeepSeek-V3.2: latent attention with a lightning indexer in every layer, expert groups, YaRN.

Defaults are the published shape (arXiv 2512.02556; `deepseek_v32` in Transformers). Its indexer rotates half-split
although its attention rotates interleaved. Transformers knows no sharing here: plans with S are ours alone.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from godwit.models.latent import SparseConfig


@dataclass(frozen=True, kw_only=True)
class Config(SparseConfig):
    """`deepseek_v32`."""

    architecture: ClassVar[str] = "DeepseekV32ForCausalLM"

    model_type: str = "deepseek_v32"
    vocab_size: int = 129280
    hidden_size: int = 7168
    intermediate_size: int = 18432
    moe_intermediate_size: int = 2048
    num_hidden_layers: int = 61
    num_attention_heads: int = 128
    num_key_value_heads: int = 128
    n_routed_experts: int = 256
    routed_scaling_factor: float = 2.5
    n_group: int = 8
    topk_group: int = 4
    first_k_dense_replace: int = 3
    q_lora_rank: int | None = 1536
    qk_nope_head_dim: int = 128
    v_head_dim: int = 128
    index_n_heads: int = 64
    indexer_rope_interleave: bool = False
    max_position_embeddings: int = 163840
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6

    def _special_to_hf(self) -> dict[str, Any]:
        special = super()._special_to_hf()
        if self.plan.num_full == self.num_hidden_layers:
            # The published config has no such key; it is kept only when it says something.
            del special["indexer_types"]
        return special
