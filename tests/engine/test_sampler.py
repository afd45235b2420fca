"""The sampler against plain definitions, over many rows at once."""

import numpy as np
import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.engine.params import SamplingParams
from godwit.engine.sampler import Row, logprobs_of, sample
from godwit.models.sampling import uniform

V = 40
ROWS = 6000


def logits(seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(V, generator=torch.Generator().manual_seed(seed))


def frequencies(params: SamplingParams, z_V: torch.Tensor, **row: object) -> torch.Tensor:
    rows = [Row(params, seed=7, place=place, **row) for place in range(ROWS)]
    return torch.bincount(torch.tensor(sample(z_V.repeat(ROWS, 1), rows)), minlength=V) / ROWS


def by_definition(z_V: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """vLLM's order: min_p on the tempered distribution, then top_k, then top_p on what is left."""
    p_V = (z_V / params.temperature).softmax(dim=0)
    p_V = torch.where(p_V >= params.min_p * p_V.max(), p_V, 0)
    order = sorted(range(V), key=lambda token: (-p_V[token].item(), token))
    if params.top_k > 0:
        p_V[torch.tensor(order[params.top_k :], dtype=torch.int64)] = 0
    p_V = p_V / p_V.sum()
    held = 0.0
    for token in order:
        if held >= params.top_p:
            p_V[token] = 0
        else:
            held += p_V[token].item()
    return p_V / p_V.sum()


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"temperature": 0.5}, {"temperature": 3.0}, {"top_k": 4}, {"top_p": 0.6}, {"min_p": 0.1}, {"top_k": -1},
        {"top_k": 8, "top_p": 0.5, "min_p": 0.02, "temperature": 1.5}, {"top_p": 1e-9}, {"top_k": 1000},
        {"temperature": 0.05},
    ],
)  # fmt: skip
def test_draws_follow_the_definition(changes: dict) -> None:
    params, z_V = SamplingParams(**changes), logits()
    expected_V, got_V = by_definition(z_V, params), frequencies(params, z_V)
    assert set(got_V.nonzero().flatten().tolist()) <= set(expected_V.nonzero().flatten().tolist())
    # Five standard errors of each frequency.
    assert bool(((got_V - expected_V).abs() <= 5 * (expected_V * (1 - expected_V) / ROWS).sqrt() + 1e-9).all())


def test_rows_do_not_see_each_other() -> None:
    kinds = [
        SamplingParams(), SamplingParams(temperature=0), SamplingParams(top_p=0.5), SamplingParams(top_k=3),
        SamplingParams(min_p=0.2), SamplingParams(repetition_penalty=2.0), SamplingParams(logit_bias={3: 9.0}),
    ]  # fmt: skip
    rows = [Row(kinds[n % len(kinds)], seed=n, place=n, prompt_ids=(1, 2), output_ids=(3,)) for n in range(70)]
    z_BV = torch.stack([logits(n) for n in range(70)])
    together = sample(z_BV.clone(), rows)
    alone = [sample(z_BV[n : n + 1].clone(), [row])[0] for n, row in enumerate(rows)]
    assert together == alone
    turned = sample(z_BV.flip(0).clone(), rows[::-1])
    assert turned[::-1] == together


def test_greedy_takes_the_lower_id_of_equals() -> None:
    assert sample(torch.tensor([[1.0, 5.0, 5.0, 0.0]]), [Row(SamplingParams(temperature=0), 0, 0)]) == [1]


def test_penalties_are_vllms() -> None:
    """z of tokens seen: / r or * r by sign (prompt and output), then - f * count - p (output)."""
    z_V = torch.tensor([2.0, -1.0, 3.0, 0.5, -2.0, 1.0])
    params = SamplingParams(temperature=0, repetition_penalty=2.0, frequency_penalty=0.25, presence_penalty=0.5)
    prompt, output = [0, 1], [2, 2, 4]
    expected = [1.0, -2.0, 1.5 - 0.25 * 2 - 0.5, 0.5, -4.0 - 0.25 - 0.5, 1.0]
    given = z_V.unsqueeze(0).clone()
    token = sample(given, [Row(params, 0, 0, prompt_ids=prompt, output_ids=output)])
    assert given[0].tolist() == pytest.approx(expected)
    assert token == [0]  # 1.0, the lower of equals


def test_bias_and_bans() -> None:
    z_BV = torch.zeros(2, 5)
    params = SamplingParams(temperature=0, logit_bias={2: 3.0, 4: 5.0})
    assert sample(z_BV, [Row(params, 0, 0), Row(params, 0, 0, banned_ids=(4,))]) == [4, 2]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_damaged_logits_are_told(value: float) -> None:
    z_BV = torch.zeros(2, 5)
    z_BV[1, 3] = value
    with pytest.raises(GodwitError, match="not finite"):
        sample(z_BV, [Row(SamplingParams(), 0, 0)] * 2)


def test_uniform_numbers() -> None:
    """Even over places and over seeds, uncorrelated between neighbours, the same for ever."""
    places, seeds = uniform([1] * 20_000, range(20_000)), uniform(range(-10_000, 10_000), [3] * 20_000)
    for u in (places, seeds):
        assert u.min() >= 0 and u.max() < 1
        counts = np.histogram(u, bins=20, range=(0, 1))[0]
        assert ((counts - 1000) ** 2 / 1000).sum() < 36.2  # 19 degrees of freedom, once in 100
        assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 0.03
    assert uniform([2**62, -5], [0, 9]).tolist() == [by_whole_numbers(2**62, 0), by_whole_numbers(-5, 9)]


def by_whole_numbers(seed: int, place: int) -> float:
    """Two rounds of splitmix64 in Python's integers."""
    state, wide = seed % 2**64, 2**64
    for salt in (0, place):
        state = (state + (salt + 1) * 0x9E3779B97F4A7C15) % wide
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % wide
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % wide
        state ^= state >> 31
    return (state >> 11) / 2**53


def test_logprobs() -> None:
    z_BV = torch.stack([logits(1), logits(2)])
    entries = logprobs_of(z_BV, [5, 6], [0, 3])
    expected_BV = z_BV.log_softmax(dim=-1)
    assert entries[0].top == () and entries[0].logprob == pytest.approx(expected_BV[0, 5].item())
    assert [token for token, _ in entries[1].top] == expected_BV[1].topk(3).indices.tolist()


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 0}, {"n": 1.5}, {"n": 10**9}, {"max_tokens": 0}, {"min_tokens": 17}, {"temperature": -1}, {"top_p": 0},
        {"temperature": float("nan")}, {"temperature": "hot"}, {"top_p": 1.1}, {"top_k": -2}, {"min_p": 2},
        {"presence_penalty": 3}, {"repetition_penalty": 0}, {"seed": 2**70}, {"logprobs": -1}, {"logprobs": True},
        {"stop": ("",)}, {"stop_token_ids": (-1,)}, {"logit_bias": {1: 1000.0}},
    ],
)  # fmt: skip
def test_values_out_of_range_say_what_is_allowed(changes: dict) -> None:
    with pytest.raises(GodwitError, match=r"give (a|texts)"):
        SamplingParams(**changes)
