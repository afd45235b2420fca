"""One token a row from logits: temperature, min_p, top_k, top_p (each over what the ones before left), then one draw.

A draw inverts the distribution at one uniform number, which is a hash of a seed and a place (how many tokens were drawn
before): no generator and no state, so it is the same whatever else is in the batch. A row's numbers come from its own
row alone; sums over probabilities are in float64.

Letters: B rows, V vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from godwit.base.errors import GodwitError

_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
# Temperatures below take the likeliest token, as in vLLM: dividing by them says nothing else.
GREEDY_BELOW = 1e-5


class Draw(NamedTuple):
    """How a row is drawn: temperature 0 takes the likeliest (the lower id of equals); `top_k` 0 keeps all."""

    temperature: float
    seed: int
    place: int
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn."""
        return self.temperature < GREEDY_BELOW

    @property
    def cuts(self) -> bool:
        """Whether it leaves tokens out."""
        return self.top_p < 1 or self.top_k > 0 or self.min_p > 0


@torch.inference_mode()
def sample(logits_BV: Tensor, draws: Sequence[Draw]) -> list[int]:
    """One token a row.

    Raises:
        GodwitError: a row has NaN or +Inf, or nothing but -Inf.
    """
    token_B = logits_BV.argmax(dim=-1)
    # argmax takes NaN for the highest, so this sees every damaged row.
    if not logits_BV.gather(1, token_B.unsqueeze(1)).isfinite().all():
        raise GodwitError(
            "the model's logits are not finite (NaN or Inf); its weights are damaged or its training diverged"
        )
    # Without cuts the order of the tokens is of no account, and sorting them is most of the work.
    plain = [number for number, draw in enumerate(draws) if not draw.greedy and not draw.cuts]
    cut = [number for number, draw in enumerate(draws) if not draw.greedy and draw.cuts]
    for numbers, function in ((plain, _draw_plain), (cut, _draw_cut)):
        if len(numbers) == len(draws):
            return function(logits_BV, draws).tolist()
        if numbers:
            number_N = torch.tensor(numbers, device=logits_BV.device)
            token_B[number_N] = function(logits_BV[number_N], [draws[number] for number in numbers])
    return token_B.tolist()


def uniform(seeds: Sequence[int], places: Sequence[int]) -> np.ndarray:
    """Numbers in [0, 1), float64, by two rounds of splitmix64 over seed and place."""
    state = np.array([seed & 0xFFFFFFFFFFFFFFFF for seed in seeds], np.uint64)
    for salt in (np.zeros(len(state), np.uint64), np.array(places, np.uint64)):
        with np.errstate(over="ignore"):
            state = state + salt * _GOLDEN + _GOLDEN
            state = (state ^ (state >> np.uint64(30))) * _MIX[0]
            state = (state ^ (state >> np.uint64(27))) * _MIX[1]
            state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _draw_plain(logits_BV: Tensor, draws: Sequence[Draw]) -> Tensor:
    z_BV = logits_BV.double() / _column([draw.temperature for draw in draws], logits_BV.device)
    return _invert((z_BV - z_BV.amax(dim=-1, keepdim=True)).exp(), draws)


def _draw_cut(logits_BV: Tensor, draws: Sequence[Draw]) -> Tensor:
    device, vocab_size = logits_BV.device, logits_BV.shape[1]
    temperature_B1 = _column([draw.temperature for draw in draws], device)
    z_BV, id_BV = (logits_BV.double() / temperature_B1).sort(dim=-1, descending=True, stable=True)
    # Relative to the likeliest, which is what min_p asks.
    p_BV = (z_BV - z_BV[:, :1]).exp()
    p_BV = p_BV * (p_BV >= _column([draw.min_p for draw in draws], device))
    rank_V = torch.arange(vocab_size, device=device)
    p_BV = p_BV * (rank_V < _column([draw.top_k if draw.top_k > 0 else vocab_size for draw in draws], device))
    sum_BV = p_BV.cumsum(dim=-1)
    top_p_B1 = _column([draw.top_p for draw in draws], device)
    # All of it is all of it, whatever rounding says.
    kept_BV = (sum_BV - p_BV < top_p_B1 * sum_BV[:, -1:]) | (top_p_B1 >= 1)
    return id_BV.gather(1, _invert(p_BV * kept_BV, draws).unsqueeze(1)).squeeze(1)


def _invert(p_BV: Tensor, draws: Sequence[Draw]) -> Tensor:
    """The first column whose sum is above u of the whole: never one without probability."""
    sum_BV = p_BV.cumsum(dim=-1)
    u_B = uniform([draw.seed for draw in draws], [draw.place for draw in draws])
    u_B1 = torch.from_numpy(u_B).to(p_BV.device).unsqueeze(1)
    place_B1 = torch.searchsorted(sum_BV, u_B1 * sum_BV[:, -1:], right=True)
    # u of the sum may round up to the sum itself: then the column that reaches it.
    last_B1 = torch.searchsorted(sum_BV, sum_BV[:, -1:].contiguous())
    return place_B1.minimum(last_B1).squeeze(1)


def _column(values: list[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device).unsqueeze(1)
