"""Log-probabilities are the training forward's, however the tokens came to be computed."""

import pytest
import torch

from godwit.engine.outputs import RequestOutput, TokenLogprob
from godwit.engine.params import SamplingParams
from godwit.models.decoder import Decoder
from tests.engine.tiny import engine_of, model_of, prompt_of, run

# Dense latent and grouped attention, every layer its own indexer, shared ones. index_topk is 24.
KINDS = ["flash", "glm45", "glm5", "glm52", "qwen3-dsa"]
PARAMS = SamplingParams(max_tokens=30, seed=4, logprobs=3, ignore_eos=True)


def assert_forward(model: Decoder, output: RequestOutput, plan: str | None = None) -> None:
    """Every told log-probability against one pass over prompt and output."""
    for choice in output.outputs:
        tokens = [*output.prompt_token_ids, *choice.token_ids]
        with torch.no_grad():
            logprob_TV = model(torch.tensor(tokens), plan=plan).logits_TV.log_softmax(dim=-1)
        start = len(output.prompt_token_ids)
        assert len(choice.logprobs) == len(choice.token_ids) > 0
        for place, entry in enumerate(choice.logprobs):
            assert_entry(entry, logprob_TV[start + place - 1], tokens[start + place])
        for place, entry in enumerate(output.prompt_logprobs or ()):
            if place:
                assert_entry(entry, logprob_TV[place - 1], tokens[place])


def assert_entry(entry: TokenLogprob | None, logprob_V: torch.Tensor, token: int) -> None:
    assert entry is not None and entry.token_id == token
    assert abs(entry.logprob - logprob_V[token].item()) < 1e-5
    best = logprob_V.topk(len(entry.top))
    assert [value for _, value in entry.top] == pytest.approx(best.values.tolist(), abs=1e-5)
    for token_id, value in entry.top:
        assert abs(value - logprob_V[token_id].item()) < 1e-5


@pytest.mark.parametrize("case", KINDS)
def test_chunks_mixed_batches_and_prefix_hits(case: str) -> None:
    model = model_of(case)
    engine = engine_of(model, max_num_batched_tokens=100)
    prompts = [prompt_of(n, seed=n) for n in (3, 40, 300, 520)]
    first = run(engine, prompts, PARAMS)
    again = run(engine, [*prompts[2:], prompts[3][:400] + prompt_of(30)], PARAMS)
    for output in (*first, *again):
        assert_forward(model, output)
    assert [output.num_cached_tokens for output in first] == [0, 0, 0, 0]
    # Full pages; in the last also the part of a page that is equal.
    assert [output.num_cached_tokens for output in again] == [256, 512, 400]
    assert [output.outputs[0].token_ids for output in again[:2]] == [
        output.outputs[0].token_ids for output in first[2:]
    ]


@pytest.mark.parametrize("case", ["flash", "glm52"])
def test_preemption(case: str) -> None:
    """Three sequences that need two pages each, in three pages."""
    model, prompts = model_of(case), [prompt_of(n, seed=n) for n in (250, 252, 254)]
    free = run(engine_of(model), prompts, PARAMS)
    engine = engine_of(model, num_pages=3, prefix_cache=False)
    pressed = run(engine, prompts, PARAMS)
    assert engine.stats().preemptions > 0
    for output in pressed:
        assert_forward(model, output)
    assert [one.outputs[0].token_ids for one in pressed] == [one.outputs[0].token_ids for one in free]


def test_a_plan_given_at_load() -> None:
    model = model_of("glm5")
    for plan, pattern in (("FSSF", "FSSF"), ("1/2", "FSFS")):
        assert_forward(model, run(engine_of(model, plan=plan), [prompt_of(200)], PARAMS)[0], plan=pattern)


@pytest.mark.parametrize("num_pages", [16, 3])
def test_of_the_prompt(num_pages: int) -> None:
    """In chunks, and again after the prefix is in the cache, which must not shorten them."""
    model = model_of("glm52")
    engine = engine_of(model, max_num_batched_tokens=100, num_pages=num_pages)
    params = SamplingParams(max_tokens=9, logprobs=0, prompt_logprobs=2, ignore_eos=True)
    for _ in range(2):
        for output in run(engine, [prompt_of(300), prompt_of(1), prompt_of(252, seed=1)], params):
            assert output.prompt_logprobs is not None and output.prompt_logprobs[0] is None
            assert len(output.prompt_logprobs) == len(output.prompt_token_ids)
            assert_forward(model, output)


def test_they_are_the_models_own_whatever_shapes_the_draw() -> None:
    params = SamplingParams(
        max_tokens=20, temperature=0.4, top_p=0.8, top_k=5, min_p=0.01, frequency_penalty=1.0, repetition_penalty=1.2,
        logit_bias={7: 5.0}, logprobs=2, seed=1, ignore_eos=True,
    )  # fmt: skip
    model = model_of("flash")
    assert_forward(model, run(engine_of(model), [prompt_of(20)], params)[0])
