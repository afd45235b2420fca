"""One token a row from logits: temperature, then `godwit.ops.draw`: min_p, top_k, top_p and one draw.

A draw inverts the distribution at one uniform number, which is a hash of a seed and a place (how many tokens were drawn
before): no generator and no state, so it is the same whatever else is in the batch. A row's numbers come from its own
row alone.

Letters: B rows, V vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.ops.draw import Cuts, draw

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
    drawn = [number for number, one in enumerate(draws) if not one.greedy]
    if len(drawn) == len(draws):
        return _draw(logits_BV, draws).tolist()
    if drawn:
        number_N = torch.tensor(drawn, device=logits_BV.device)
        token_B[number_N] = _draw(logits_BV[number_N], [draws[number] for number in drawn])
    return token_B.tolist()


def _draw(logits_BV: Tensor, draws: Sequence[Draw]) -> Tensor:
    # In place from here: these numbers are the largest that sampling makes.
    p_BV = logits_BV.to(torch.float64, copy=True)
    p_BV -= p_BV.amax(dim=-1, keepdim=True)
    p_BV /= _float64([one.temperature for one in draws]).to(p_BV.device).unsqueeze(1)
    u_B = torch.from_numpy(uniform([one.seed for one in draws], [one.place for one in draws]))
    top_k_B = torch.tensor([max(one.top_k, 0) for one in draws])
    cuts = Cuts(_float64([one.top_p for one in draws]), top_k_B, _float64([one.min_p for one in draws]))
    return draw(p_BV.exp_(), u_B, cuts)


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


def _float64(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
