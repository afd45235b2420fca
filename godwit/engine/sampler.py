"""From logits to tokens and log-probabilities, all rows at once.

    z = logits of the model;  log-probabilities told are log_softmax(z)
    grammar's mask, logit_bias, min_tokens, then penalties (repetition, frequency, presence)   [vLLM's order]
    / temperature, min_p, top_k, top_p (each over what the ones before left, renormalised), then one draw

A draw inverts the distribution at one uniform number, which is a hash of the choice's seed and of how many tokens it
has: no generator and no state, so it is the same whatever else is in the batch, after a preemption, and with drafts. A
row's numbers come from its own row alone (sums over sorted probabilities in float64).

Letters: B rows, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.engine.outputs import TokenLogprob
from godwit.engine.params import SamplingParams

_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class Row:
    """One position to sample at.

    Attributes:
        seed, place: what the draw depends on; `place` is the number of tokens before it.
        prompt_ids, output_ids: tokens before it, where penalties need them.
        banned_ids: tokens that may not come, for `min_tokens`.
    """

    params: SamplingParams
    seed: int
    place: int
    prompt_ids: Sequence[int] = ()
    output_ids: Sequence[int] = ()
    banned_ids: Sequence[int] = ()


@torch.inference_mode()
def sample(logits_BV: Tensor, rows: Sequence[Row]) -> list[int]:
    """One token a row. Changes the logits in place.

    Raises:
        GodwitError: a row has NaN, or nothing is left to choose from.
    """
    for number, row in enumerate(rows):
        if row.params.logit_bias or row.banned_ids or row.params.penalised:
            _adjust(logits_BV[number], row)
    token_B = logits_BV.argmax(dim=-1)
    highest_B = logits_BV.gather(1, token_B.unsqueeze(1)).squeeze(1)
    # argmax takes NaN for the highest, so this sees every damaged row.
    if not highest_B.isfinite().all():
        raise GodwitError(
            "the model's logits are not finite, or nothing may come next (logit_bias, stop_token_ids and min_tokens "
            "together forbid all); its weights are damaged, or loosen the request"
        )
    drawn = [number for number, row in enumerate(rows) if not row.params.greedy]
    if not drawn:
        return token_B.tolist()
    if len(drawn) < len(rows):
        drawn_B = torch.tensor(drawn, device=logits_BV.device)
        token_B[drawn_B] = _draw(logits_BV[drawn_B], [rows[number] for number in drawn])
        return token_B.tolist()
    return _draw(logits_BV, rows).tolist()


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


def _adjust(logits_V: Tensor, row: Row) -> None:
    """Bias, bans and penalties of one row, in place."""
    params, device = row.params, logits_V.device
    if params.logit_bias:
        ids = torch.tensor(list(params.logit_bias), device=device)
        logits_V[ids] += torch.tensor(list(params.logit_bias.values()), dtype=logits_V.dtype, device=device)
    if row.banned_ids:
        logits_V[torch.tensor(list(row.banned_ids), device=device)] = -torch.inf
    if not params.penalised:
        return
    output_N = torch.tensor(row.output_ids, dtype=torch.int64, device=device)
    if params.repetition_penalty != 1:
        prompt_N = torch.tensor(row.prompt_ids, dtype=torch.int64, device=device)
        ids = torch.cat((prompt_N, output_N)).unique()
        z, factor = logits_V[ids], params.repetition_penalty
        logits_V[ids] = torch.where(z > 0, z / factor, z * factor)
    ids, count = output_N.unique(return_counts=True)
    logits_V[ids] -= params.frequency_penalty * count + params.presence_penalty


def _draw(logits_BV: Tensor, rows: Sequence[Row]) -> Tensor:
    """A token a row from what temperature and cuts leave."""
    params, device = [row.params for row in rows], logits_BV.device
    temperature_B = _column([max(one.temperature, 1e-6) for one in params], device)
    z_BV, id_BV = (logits_BV.double() / temperature_B).sort(dim=-1, descending=True, stable=True)
    p_BV = (z_BV - z_BV[:, :1]).exp()
    if any(one.min_p for one in params):
        # exp(z - max) is the probability relative to the likeliest.
        p_BV = p_BV * (p_BV >= _column([one.min_p for one in params], device))
    vocab_size = logits_BV.shape[1]
    if any(0 < one.top_k < vocab_size for one in params):
        rank_V = torch.arange(vocab_size, device=device)
        p_BV = p_BV * (rank_V < _column([one.top_k if one.top_k > 0 else vocab_size for one in params], device))
    sum_BV = p_BV.cumsum(dim=-1)
    if any(one.top_p < 1 for one in params):
        before_BV = sum_BV - p_BV
        p_BV = p_BV * (before_BV < _column([one.top_p for one in params], device) * sum_BV[:, -1:])
        sum_BV = p_BV.cumsum(dim=-1)
    u_B1 = torch.from_numpy(uniform([row.seed for row in rows], [row.place for row in rows])).to(device).unsqueeze(1)
    # The first place whose sum is above u: a place of no probability never is.
    place_B1 = torch.searchsorted(sum_BV, u_B1 * sum_BV[:, -1:], right=True)
    # u * sum may round up to the sum itself; then the last place of any probability.
    last_B1 = (p_BV > 0).sum(dim=-1, keepdim=True) - 1
    return id_BV.gather(1, place_B1.minimum(last_B1)).squeeze(1)


def _column(values: list[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device).unsqueeze(1)


@torch.inference_mode()
def logprobs_of(logits_BV: Tensor, token_ids: Sequence[int], num_top: Sequence[int]) -> list[TokenLogprob]:
    """Log-probabilities of a token a row, and of so many likeliest ones."""
    logprob_BV = logits_BV.float().log_softmax(dim=-1)
    token_B1 = torch.tensor(token_ids, device=logits_BV.device).unsqueeze(1)
    chosen = logprob_BV.gather(1, token_B1).squeeze(1).tolist()
    most = min(max(num_top), logits_BV.shape[1])
    top = logprob_BV.topk(most, dim=-1)
    values, ids = top.values.tolist(), top.indices.tolist()
    return [
        TokenLogprob(token_id, logprob, tuple(zip(ids[row][:count], values[row][:count])))
        for row, (token_id, logprob, count) in enumerate(zip(token_ids, chosen, num_top, strict=True))
    ]
