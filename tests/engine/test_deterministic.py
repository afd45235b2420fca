"""Deterministic mode: a request's tokens and log-probabilities are bit for bit the same, alone and in any company."""

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.engine.params import SamplingParams
from tests.engine.tiny import engine_of, model_of, prompt_of, run


@pytest.mark.parametrize(("case", "mtp"), [("flash", False), ("glm5", True), ("glm52", False), ("glm45", True)])
def test_batched_equals_alone(case: str, mtp: bool) -> None:
    model = model_of(case, mtp)
    settings = {"deterministic": True, "max_num_batched_tokens": 300, "speculate": 2 * mtp}
    prompts = [prompt_of(n, seed=n) for n in (3, 250, 254, 530)] + [prompt_of(530, seed=530)[:300]]
    params = [SamplingParams(max_tokens=10, seed=n, logprobs=1, ignore_eos=True) for n in range(len(prompts))]
    alone = [
        run(engine_of(model, **settings, prefix_cache=False), [prompt], [one])[0]
        for prompt, one in zip(prompts, params, strict=True)
    ]
    roomy, tight = engine_of(model, **settings), engine_of(model, **settings, num_pages=4)
    for engine in (roomy, tight, roomy):
        for output, expected in zip(run(engine, prompts, params), alone, strict=True):
            assert output.outputs == expected.outputs
    assert tight.stats().preemptions > 0 and roomy.stats().prefix_hit_tokens > 0


def test_a_neighbour_so_long_that_its_selection_is_shared_among_threads() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        model, prompts = model_of("glm5"), [prompt_of(30), prompt_of(2100, seed=1)]
        params = SamplingParams(max_tokens=10, seed=1, logprobs=1, ignore_eos=True)
        together = run(engine_of(model, deterministic=True), prompts, params)
        alone = [run(engine_of(model, deterministic=True), [prompt], params)[0] for prompt in prompts]
        assert [one.outputs for one in together] == [one.outputs for one in alone]
    finally:
        torch.set_num_threads(threads)


def test_a_page_that_prompts_share_is_computed_once() -> None:
    engine, start = engine_of(model_of("flash"), deterministic=True), prompt_of(280)
    prompts = [start + prompt_of(length, seed=length) for length in (20, 30)]
    run(engine, prompts, SamplingParams(max_tokens=2, temperature=0, ignore_eos=True))
    # 256 tokens are a page.
    assert engine.stats().prompt_tokens == 300 + 54


def test_drafts_without_the_compiled_step_are_refused() -> None:
    with pytest.raises(GodwitError, match="set speculate to 0"):
        engine_of(model_of("flash-direct-query", True), deterministic=True, speculate=2)
