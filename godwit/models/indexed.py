"""Config fields of DeepSeek Sparse Attention: the lightning indexers and which layers share one.

`IndexedConfig` stands last among a family's bases, so that the others' fields and defaults win: latent attention makes
the index queries from its query latent, grouped-query attention from the layer's input, which is as wide as the model.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from godwit.base.errors import GodwitError
from godwit.models.config import DecoderConfig
from godwit.nn.indexer import Indexer
from godwit.nn.share_plan import FULL, SharePlan

# The prediction layer's first step runs its own indexer, and later steps reuse the choice.
MTP_KEY = "index_share_for_mtp_iteration"


@dataclass(frozen=True, kw_only=True)
class IndexedConfig(DecoderConfig):
    """A model whose attention looks at `index_topk` positions that a lightning indexer chooses.

    Attributes:
        indexer_rope_interleave: how indexers rotate; engines take half-split where a config does not say.
        indexer_types: "full" or "shared" per layer; empty means all full. The prediction layer is always full.
    """

    index_topk: int = 2048
    index_head_dim: int = 128
    index_n_heads: int = 32
    indexer_rope_interleave: bool = False
    indexer_types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("index_topk", "index_head_dim", "index_n_heads"):
            self._require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        self._require(
            self.rope_width <= self.index_head_dim,
            f"index_head_dim {self.index_head_dim} must hold the {self.rope_width} rotated dimensions of a head",
        )
        types = tuple(self.indexer_types) or (FULL,) * self.num_hidden_layers
        object.__setattr__(self, "indexer_types", SharePlan.parse(types, self.num_hidden_layers).types)

    @property
    def index_query_width(self) -> int:
        """Width of what index queries are made from: the layer's input."""
        return self.hidden_size

    @property
    def plan(self) -> SharePlan:
        """The sharing plan."""
        return SharePlan.parse(self.indexer_types, self.num_hidden_layers)

    @property
    def index_topk_or_none(self) -> int:
        """`index_topk`."""
        return self.index_topk

    def indexer(self, layer: int) -> Indexer | None:
        """An indexer for full layers and the prediction layer."""
        if layer < self.num_hidden_layers and not self.plan.is_full(layer):
            return None
        return Indexer(
            hidden_size=self.hidden_size,
            q_lora_rank=self.index_query_width,
            index_n_heads=self.index_n_heads,
            index_head_dim=self.index_head_dim,
            index_topk=self.index_topk,
            rope_interleaved=self.indexer_rope_interleave,
        )

    @classmethod
    def _special_from_hf(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        special = super()._special_from_hf(raw)
        if raw.get("indexer_types") is not None:
            special["indexer_types"] = tuple(raw["indexer_types"])
        return special

    def _special_to_hf(self) -> dict[str, Any]:
        said = {key: value for key, value in self.plan.config_keys.items() if value is not None}
        if self.num_nextn_predict_layers and self.plan.num_full < self.num_hidden_layers:
            said[MTP_KEY] = True
        return super()._special_to_hf() | said


def with_plan(config: DecoderConfig, plan: SharePlan | str) -> IndexedConfig:
    """`config` with another sharing plan, written as `SharePlan.named` reads it.

    Raises:
        GodwitError: a model without indexers, or a plan that does not fit it.
    """
    if not isinstance(config, IndexedConfig):
        raise GodwitError(
            f"a {config.model_type} model has no indexers, so there is nothing to share; godwit convert gives it some"
        )
    named = plan if isinstance(plan, SharePlan) else SharePlan.named(plan, config.num_hidden_layers)
    return dataclasses.replace(config, indexer_types=SharePlan.parse(named, config.num_hidden_layers).types)
