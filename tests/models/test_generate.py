"""Sampling: equal to the plain definition, independent of neighbours, and it stops where it should."""

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.models.decoder import Decoder
from godwit.models.families import config_from_hf
from godwit.models.generate import Generation, generate
from godwit.models.init import build
from tests.models.parity import CASES

PROMPTS = [[5, 6, 7, 8, 9], [3], [11, 12, 13]]


@pytest.fixture(scope="module", params=["glm45-tied", "glm52"])
def model(request: pytest.FixtureRequest) -> Decoder:
    model = build(config_from_hf(CASES[request.param]), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(5)
    return model


def greedy_by_hand(model: Decoder, prompt: list[int], num_tokens: int) -> tuple[int, ...]:
    tokens = list(prompt)
    for _ in range(num_tokens):
        tokens.append(int(model(torch.tensor(tokens)).logits_TV[-1].argmax()))
    return tuple(tokens[len(prompt) :])


def test_greedy_is_the_definition_for_prompts_laid_together(model: Decoder) -> None:
    """22 new tokens take the longest prompt past the index_topk of 24."""
    found = generate(model, PROMPTS, max_new_tokens=22, temperature=0)
    assert found == [Generation(greedy_by_hand(model, prompt, 22), "length") for prompt in PROMPTS]


def test_seeded_sampling_repeats_itself_and_differs_between_seeds(model: Decoder) -> None:
    first = generate(model, PROMPTS, max_new_tokens=12, seed=1)
    assert generate(model, PROMPTS, max_new_tokens=12, seed=1) == first
    assert generate(model, PROMPTS, max_new_tokens=12, seed=2) != first
    # A prompt that ends early leaves the others' draws alone.
    ends = {first[1].token_ids[2]}
    again = generate(model, PROMPTS, max_new_tokens=12, seed=1, eos_token_ids=ends)
    for before, after in zip(first, again, strict=True):
        stop = next((place + 1 for place, token in enumerate(before.token_ids) if token in ends), 12)
        assert after.token_ids == before.token_ids[:stop]
        assert after.finish_reason == ("stop" if before.token_ids[stop - 1] in ends else "length")
    assert again[1].finish_reason == "stop"


def test_length_is_bounded_by_the_model(model: Decoder) -> None:
    limit = model.config.max_position_embeddings
    found = generate(model, [[1] * (limit - 2), [2] * limit], max_new_tokens=5, temperature=0)
    assert [len(one.token_ids) for one in found] == [2, 0]
    assert [one.finish_reason for one in found] == ["length", "length"]


def test_nothing_to_do(model: Decoder) -> None:
    assert generate(model, []) == []
    assert generate(model, [[1]], max_new_tokens=0) == [Generation((), "length")]


@pytest.mark.parametrize(
    ("prompts", "settings", "told"),
    [
        ([[1], []], {}, "prompt 1 is empty"),
        ([[1, 97]], {}, "0 to 96"),
        ([[-1]], {}, "0 to 96"),
        ([[1]], {"temperature": -1.0}, "temperature is -1.0"),
        ([[1]], {"top_p": 0.0}, "top_p is 0.0"),
        ([[1]], {"max_new_tokens": -1}, "max_new_tokens is -1"),
    ],
)
def test_wrong_arguments(model: Decoder, prompts: list[list[int]], settings: dict, told: str) -> None:
    with pytest.raises(GodwitError, match=told):
        generate(model, prompts, **settings)


def test_a_model_gone_wrong_is_told(model: Decoder) -> None:
    broken = build(model.config)
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    with pytest.raises(GodwitError, match="not finite"):
        generate(broken, [[1]])
