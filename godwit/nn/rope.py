"""Angles of the rotary position embedding: plain, YaRN and Llama 3.1 frequencies.

Plain: inv_freq[i] = theta^(-2i / R). YaRN (arXiv 2309.00071) blends each frequency between itself and itself / factor
by a linear ramp over the dimensions that turn between `beta_slow` and `beta_fast` times within the original context.
Llama 3.1 (arXiv 2407.21783; `llama3` in Transformers) does so by a ramp over the number of turns itself, between
`low_freq_factor` and `high_freq_factor`.

Letters: T tokens, R rotated width, P = R / 2 pairs.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from godwit.base.errors import GodwitError


@dataclass(frozen=True, kw_only=True)
class YarnScaling:
    """Context extension by YaRN, under the field names of `rope_parameters` in Hugging Face configs."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    attention_factor: float | None = None
    truncate: bool = True


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling:
    """Context extension of Llama 3.1, under the field names of `rope_parameters` in Hugging Face configs."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def __post_init__(self) -> None:
        if self.high_freq_factor <= self.low_freq_factor:
            raise GodwitError(
                f"rope high_freq_factor {self.high_freq_factor} must be above low_freq_factor {self.low_freq_factor}"
            )


RopeScaling = YarnScaling | Llama3Scaling
ROPE_TYPES: dict[str, type[YarnScaling] | type[Llama3Scaling]] = {"yarn": YarnScaling, "llama3": Llama3Scaling}


class RopeTables(NamedTuple):
    """Cosines and sines of the tokens' angles, float32 `(T, P)` each; what `godwit.ops.rotate` takes."""

    cos_TP: Tensor
    sin_TP: Tensor


@dataclass(frozen=True, kw_only=True)
class Rope:
    """What a rotary embedding needs to know: rotated width R, base, and an optional extension."""

    width: int
    theta: float
    scaling: RopeScaling | None = None

    def tables(self, positions_T: Tensor) -> RopeTables:
        """Angle tables for these positions."""
        angle_TP = positions_T.to(torch.float32).unsqueeze(1) * self.frequencies(positions_T.device)
        factor = self._table_factor()
        return RopeTables(angle_TP.cos() * factor, angle_TP.sin() * factor)

    def frequencies(self, device: torch.device) -> Tensor:
        """Inverse frequencies, float32 `(P,)`."""
        exponent_P = torch.arange(0, self.width, 2, dtype=torch.float32, device=device) / self.width
        inverse_P = 1.0 / (self.theta**exponent_P)
        if self.scaling is None:
            return inverse_P
        if isinstance(self.scaling, Llama3Scaling):
            turns_P = self.scaling.original_max_position_embeddings * inverse_P / (2 * math.pi)
            low, high = self.scaling.low_freq_factor, self.scaling.high_freq_factor
            kept_P = ((turns_P - low) / (high - low)).clamp(0, 1)
            return inverse_P / self.scaling.factor * (1 - kept_P) + inverse_P * kept_P
        low, high = self._ramp_bounds(self.scaling)
        ramp_P = ((torch.arange(self.width // 2, dtype=torch.float32, device=device) - low) / (high - low)).clamp(0, 1)
        return inverse_P / self.scaling.factor * ramp_P + inverse_P * (1 - ramp_P)

    def softmax_factor(self) -> float:
        """What the attention scale is multiplied with: (0.1 mscale_all_dim ln factor + 1)^2 in DeepSeek's YaRN."""
        if not isinstance(self.scaling, YarnScaling) or not self.scaling.mscale_all_dim:
            return 1.0
        return _mscale(self.scaling.factor, self.scaling.mscale_all_dim) ** 2

    def _ramp_bounds(self, scaling: YarnScaling) -> tuple[float, float]:
        def dimension(turns: float) -> float:
            length = scaling.original_max_position_embeddings
            return self.width * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(self.theta))

        low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
        if scaling.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.width - 1)
        # Equal bounds would divide by zero; a thousandth makes the ramp a step.
        return low, high + 0.001 if low == high else high

    def _table_factor(self) -> float:
        scaling = self.scaling
        if not isinstance(scaling, YarnScaling):
            return 1.0
        if scaling.attention_factor is not None:
            return scaling.attention_factor
        if scaling.mscale and scaling.mscale_all_dim:
            return _mscale(scaling.factor, scaling.mscale) / _mscale(scaling.factor, scaling.mscale_all_dim)
        return _mscale(scaling.factor, 1.0)


def _mscale(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
