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
from godwit.ops.draw import Rows, draw

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
    columns = (
        np.array([0.0 if one.greedy else one.temperature for one in draws]),
        uniform([one.seed for one in draws], [one.place for one in draws]),
        np.array([float(one.top_p) for one in draws]),
        np.array([max(one.top_k, 0) for one in draws], np.int64),
        np.array([float(one.min_p) for one in draws]),
    )
    rows = Rows(*(torch.from_numpy(column) for column in columns))
    tokens = draw(logits_BV, rows).tolist()
    if min(tokens, default=0) < 0:
        raise GodwitError(
            "the model's logits are not finite (NaN or Inf); its weights are damaged or its training diverged"
        )
    return tokens


def uniform(seeds: Sequence[int], places: Sequence[int]) -> np.ndarray:
    """Numbers in [0, 1), float64, by two rounds of splitmix64 over seed and place."""
    # numba takes a second to import; only those who draw pay for it.
    from godwit.ops.draw._kernel import hashed

    whole = np.array([seed & 0xFFFFFFFFFFFFFFFF for seed in seeds], np.uint64)
    u = np.empty(len(whole))
    hashed(whole, np.array(places, np.uint64), u)
    return u
