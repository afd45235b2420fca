"""From logits to tokens and log-probabilities, all rows at once.

    log-probabilities that are told: log_softmax of the model's own logits
    then, for the draw: grammar's mask, logit_bias, min_tokens, penalties (repetition, frequency, presence), and
    `godwit.models.sampling`: temperature, min_p, top_k, top_p   [vLLM's order]

Letters: B rows, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from godwit.engine.outputs import TokenLogprob
from godwit.engine.params import SamplingParams
from godwit.models import sampling


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
    """One token a row. Changes the logits of rows with bias, bans or penalties in place.

    Raises:
        GodwitError: logits that are not finite.
    """
    for number, row in enumerate(rows):
        if row.params.logit_bias or row.banned_ids or row.params.penalised:
            _adjust(logits_BV[number], row)
    return sampling.sample(logits_BV, [_draw(row) for row in rows])


def _draw(row: Row) -> sampling.Draw:
    params = row.params
    return sampling.Draw(
        params.temperature, row.seed, row.place, top_p=params.top_p, top_k=params.top_k, min_p=params.min_p
    )


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
