"""Config fields shared by the latent-attention families: dense (`LatentConfig`) and with indexers (`SparseConfig`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from godwit.models.experts import ExpertConfig
from godwit.models.indexed import IndexedConfig
from godwit.nn.mla import MultiHeadLatentAttention


@dataclass(frozen=True, kw_only=True)
class LatentConfig(ExpertConfig):
    """Multi-head latent attention. `num_key_value_heads` equals `num_attention_heads`; other readers want it."""

    q_lora_rank: int | None = 768
    kv_lora_rank: int = 512
    qk_nope_head_dim: int = 192
    qk_rope_head_dim: int = 64
    v_head_dim: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(
            self.num_key_value_heads == self.num_attention_heads,
            f"num_key_value_heads {self.num_key_value_heads} must equal num_attention_heads {self.num_attention_heads}",
        )

    @property
    def rope_width(self) -> int:
        """The rope part of a head."""
        return self.qk_rope_head_dim

    def attention(self, layer: int) -> MultiHeadLatentAttention:
        """Latent attention with whatever indexer the layer has."""
        return MultiHeadLatentAttention(
            hidden_size=self.hidden_size,
            num_attention_heads=self.num_attention_heads,
            q_lora_rank=self.q_lora_rank,
            kv_lora_rank=self.kv_lora_rank,
            qk_nope_head_dim=self.qk_nope_head_dim,
            qk_rope_head_dim=self.qk_rope_head_dim,
            v_head_dim=self.v_head_dim,
            attention_bias=self.attention_bias,
            softmax_factor=self.rope.softmax_factor(),
            indexer=self.indexer(layer),
        )

    @classmethod
    def _special_from_hf(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        special = super()._special_from_hf(raw)
        if "q_lora_rank" in raw:
            # A null here is a choice (no query latent), not a missing value.
            special["q_lora_rank"] = raw["q_lora_rank"]
        return special

    def _special_to_hf(self) -> dict[str, Any]:
        # vLLM and SGLang have one class for all latent models and tell this router from DeepSeek-V2's by these.
        return super()._special_to_hf() | {"topk_method": "noaux_tc", "scoring_func": "sigmoid"}

    def matrix_splits(self, attention: str) -> dict[str, tuple[int, ...]]:
        """Muon Split: W_UQ, W_UK and W_UV by head (GLM-5, arXiv 2602.15763, section 2.1)."""
        heads, query = self.num_attention_heads, "q_proj" if self.q_lora_rank is None else "q_b_proj"
        return {
            f"{attention}.{query}.weight": (self.qk_nope_head_dim + self.qk_rope_head_dim,) * heads,
            f"{attention}.kv_b_proj.weight": (self.qk_nope_head_dim, self.v_head_dim) * heads,
        }


@dataclass(frozen=True, kw_only=True)
class SparseConfig(LatentConfig, IndexedConfig):
    """Latent attention with a lightning indexer (DeepSeek Sparse Attention)."""

    indexer_rope_interleave: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.q_lora_rank is not None, "the indexer reads the query latent; q_lora_rank must be set")

    @property
    def index_query_width(self) -> int:
        """Width of the query latent."""
        assert self.q_lora_rank is not None, "checked in __post_init__"
        return self.q_lora_rank

    def _special_to_hf(self) -> dict[str, Any]:
        # Other readers take the rotated width from `head_dim`.
        return super()._special_to_hf() | {"head_dim": self.qk_rope_head_dim}
