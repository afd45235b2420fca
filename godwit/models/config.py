"""What every decoder family has in common: fields under their Hugging Face names, and reading and writing them.

A family is one file in `godwit/models/families/` with a `Config` class: its fields and its defaults (the published
shape). It joins what it consists of: `ExpertConfig` (mixture of experts), `LatentConfig` or `GroupedConfig` (which
attention), `IndexedConfig` (lightning indexers). Everything else is here.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import nn

from godwit.base.config import from_json
from godwit.base.errors import GodwitError
from godwit.nn.indexer import Indexer
from godwit.nn.layer import DecoderLayer, PredictionLayer
from godwit.nn.mlp import GatedMLP
from godwit.nn.moe import MixtureOfExperts
from godwit.nn.rope import ROPE_TYPES, Rope, RopeScaling
from godwit.nn.share_plan import SharePlan

# Keys of Hugging Face configs that would change the computation; only these values are implemented.
_ONLY = {
    "hidden_act": "silu",
    "mlp_bias": False,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "rope_interleave": True,
    "moe_layer_freq": 1,
    "use_sliding_window": False,
}


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(ABC):
    """A decoder's shape. Names and meanings are those of Transformers' configs; defaults are GLM-4.5-Air's.

    Attributes:
        num_nextn_predict_layers: 0 or 1 multi-token prediction layer (any number of depths share it).
        rope_scaling: YaRN extension (Llama 3.1's in its kind), or None for plain RoPE.
    """

    architecture: ClassVar[str]
    rope_types: ClassVar[tuple[str, ...]] = ("default", "yarn")

    model_type: str
    vocab_size: int = 151552
    hidden_size: int = 4096
    intermediate_size: int = 10944
    num_hidden_layers: int = 46
    num_attention_heads: int = 96
    num_key_value_heads: int = 8
    attention_bias: bool = False
    max_position_embeddings: int = 131072
    rope_theta: float = 1_000_000.0
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False
    num_nextn_predict_layers: int = 0
    eos_token_id: tuple[int, ...] = ()
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        positive = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        for name in positive:
            self._require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        self._require(
            self.num_nextn_predict_layers in (0, 1), "num_nextn_predict_layers must be 0 or 1 (its depths share it)"
        )
        self._require(self.rope_width % 2 == 0, f"the rotated width must be even, got {self.rope_width}")

    def _require(self, holds: bool, message: str) -> None:
        if not holds:
            raise GodwitError(f"{self.model_type} config: {message}")

    # What a family says about itself.

    @property
    @abstractmethod
    def rope_width(self) -> int:
        """How many dimensions of a head are rotated."""

    @property
    def plan(self) -> SharePlan | None:
        """Sharing plan of a model with indexers; None for dense models."""
        return None

    @property
    def index_topk_or_none(self) -> int | None:
        """How many positions sparse attention selects; None for dense models."""
        return None

    @property
    def routed_experts(self) -> tuple[int, int]:
        """Routed experts of a layer and how many of them a token goes to; (0, 0) for models without experts."""
        return 0, 0

    def indexer(self, layer: int) -> Indexer | None:
        """The layer's indexer; dense models have none."""
        return None

    @abstractmethod
    def attention(self, layer: int) -> nn.Module:
        """Build the attention block of `layer` (`num_hidden_layers` is the prediction layer)."""

    def matrix_splits(self, attention: str) -> dict[str, tuple[int, ...]]:
        """Row sizes of attention matrices that Muon Split orthogonalises per head, by name behind `attention`."""
        return {}

    # What is built from it.

    @property
    def rope(self) -> Rope:
        """The rotary embedding."""
        return Rope(width=self.rope_width, theta=self.rope_theta, scaling=self.rope_scaling)

    @property
    def num_layers_with_mtp(self) -> int:
        """Decoder layers plus the prediction layer."""
        return self.num_hidden_layers + self.num_nextn_predict_layers

    def is_moe(self, layer: int) -> bool:
        """Whether `layer` has experts."""
        return False

    def layer(self, layer: int) -> DecoderLayer:
        """Build decoder layer `layer`, or the prediction layer."""
        kind = PredictionLayer if layer == self.num_hidden_layers else DecoderLayer
        return kind(
            hidden_size=self.hidden_size,
            rms_norm_eps=self.rms_norm_eps,
            self_attn=self.attention(layer),
            mlp=self.feed_forward(layer),
        )

    def feed_forward(self, layer: int) -> GatedMLP | MixtureOfExperts:
        """Build the feed-forward block of `layer`."""
        return GatedMLP(hidden_size=self.hidden_size, intermediate_size=self.intermediate_size)

    # Hugging Face.

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any]) -> Self:
        """From the content of a `config.json`.

        Raises:
            GodwitError: when a value asks for a computation that is not implemented.
        """
        for key, only in _ONLY.items():
            if raw.get(key, only) != only:
                raise GodwitError(f"{cls.__name__}: {key}={raw[key]!r} is not supported, only {only!r}")
        values = {field.name: raw[field.name] for field in dataclasses.fields(cls) if raw.get(field.name) is not None}
        values |= cls._rope_from_hf(raw) | cls._special_from_hf(raw)
        eos = raw.get("eos_token_id")
        values["eos_token_id"] = [] if eos is None else eos if isinstance(eos, list | tuple) else [eos]
        return from_json(cls, values, where="config.json")

    @classmethod
    def _special_from_hf(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Fields whose Hugging Face form differs; families extend this."""
        special: dict[str, Any] = {}
        if raw.get("num_nextn_predict_layers") is None:
            special["num_nextn_predict_layers"] = raw.get("num_mtp_layers") or 0
        return special

    @classmethod
    def _rope_from_hf(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        """`rope_theta` and `rope_scaling` from either generation of config keys."""
        merged: dict[str, Any] = {}
        for key in ("rope_scaling", "rope_parameters"):
            found = raw.get(key) or {}
            if not isinstance(found, Mapping):
                raise GodwitError(f"config.json.{key}: expected an object, got {found!r}")
            merged |= found
        values: dict[str, Any] = {"rope_scaling": None}
        theta = merged.get("rope_theta", raw.get("rope_theta"))
        if theta is not None:
            values["rope_theta"] = theta
        kind = merged.get("rope_type", merged.get("type", "default"))
        if kind not in cls.rope_types:
            raise GodwitError(f"rope type {kind!r} is not supported here, only {' and '.join(cls.rope_types)}")
        if kind != "default":
            known = {field.name for field in dataclasses.fields(ROPE_TYPES[kind])}
            values["rope_scaling"] = {key: value for key, value in merged.items() if key in known and value is not None}
        return values

    def to_hf(self) -> dict[str, Any]:
        """The content of a `config.json` that Transformers, vLLM and SGLang read."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        scaling = values.pop("rope_scaling")
        rope: dict[str, Any] = {"rope_type": "default", "rope_theta": self.rope_theta}
        if scaling is not None:
            kind = next(name for name, scaling_type in ROPE_TYPES.items() if isinstance(scaling, scaling_type))
            rope |= {"rope_type": kind} | {k: v for k, v in dataclasses.asdict(scaling).items() if v is not None}
        values |= {
            "architectures": [self.architecture],
            "rope_parameters": rope,
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            "eos_token_id": list(self.eos_token_id) or None,
        }
        return values | self._special_to_hf()

    def _special_to_hf(self) -> dict[str, Any]:
        """Keys beyond the fields; families extend this."""
        return {}
