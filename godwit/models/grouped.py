"""Config fields shared by the grouped-query families: GLM-4.5's kind, and Llama's kind without experts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from godwit.base.errors import GodwitError
from godwit.models.config import DecoderConfig
from godwit.nn.gqa import GroupedQueryAttention


@dataclass(frozen=True, kw_only=True)
class GroupedConfig(DecoderConfig):
    """Grouped-query attention; `indexer(layer)` says whether it looks everywhere."""

    output_bias: ClassVar[bool] = False
    """Whether `attention_bias` is meant for the output projection too."""

    head_dim: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        heads, groups = self.num_attention_heads, self.num_key_value_heads
        self._require(
            groups > 0 and heads % groups == 0,
            f"num_attention_heads {heads} must be a multiple of num_key_value_heads {groups}",
        )

    @property
    def rope_width(self) -> int:
        """The rotated first part of a head: all of it."""
        return self.head_dim

    @property
    def has_qk_norm(self) -> bool:
        """Whether queries and keys are normalised per head."""
        return False

    def attention(self, layer: int) -> GroupedQueryAttention:
        """Grouped-query attention with whatever indexer the layer has."""
        return GroupedQueryAttention(
            hidden_size=self.hidden_size,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads,
            head_dim=self.head_dim,
            attention_bias=self.attention_bias,
            output_bias=self.attention_bias and self.output_bias,
            use_qk_norm=self.has_qk_norm,
            rms_norm_eps=self.rms_norm_eps,
            indexer=self.indexer(layer),
        )

    @classmethod
    def _special_from_hf(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        special = super()._special_from_hf(raw)
        if raw.get("head_dim") is None:
            hidden, heads = raw.get("hidden_size", cls.hidden_size), raw.get("num_attention_heads")
            special["head_dim"] = hidden // (heads or cls.num_attention_heads)
        return special


@dataclass(frozen=True, kw_only=True)
class PlainConfig(GroupedConfig):
    """Llama's kind: no experts, no prediction layer, the whole head rotated."""

    output_bias: ClassVar[bool] = True
    rope_types: ClassVar[tuple[str, ...]] = ("default", "yarn", "llama3")

    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.num_nextn_predict_layers == 0, "num_nextn_predict_layers must be 0, there is no such layer")

    @classmethod
    def _special_from_hf(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        special = super()._special_from_hf(raw)
        kinds = set(raw.get("layer_types") or ()) - {"full_attention"}
        if kinds:
            raise GodwitError(f"layer_types holds {sorted(kinds)[0]!r}, which is not supported, only 'full_attention'")
        if raw.get("num_key_value_heads") is None:
            special["num_key_value_heads"] = raw.get("num_attention_heads", cls.num_attention_heads)
        return special
