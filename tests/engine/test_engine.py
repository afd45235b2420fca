"""What requests get: the plain forward's text, their own seed's, and an end for the right reason."""

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.engine.outputs import Delta
from godwit.engine.params import SamplingParams
from tests.engine.tiny import VOCAB, assert_idle, engine_of, model_of, prompt_of, run, tokenizer

GREEDY = SamplingParams(max_tokens=12, temperature=0, ignore_eos=True)


def greedy_by_hand(case: str, prompt: list[int], count: int) -> tuple[int, ...]:
    tokens, model = list(prompt), model_of(case)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(torch.tensor(tokens)).logits_TV[-1].argmax()))
    return tuple(tokens[len(prompt) :])


@pytest.mark.parametrize("case", ["glm45", "glm52"])
def test_greedy_is_the_plain_forward(case: str) -> None:
    prompts = [prompt_of(n, seed=n) for n in (1, 20, 60)]
    outputs = run(engine_of(model_of(case)), prompts, GREEDY)
    for prompt, output in zip(prompts, outputs, strict=True):
        assert output.outputs[0].token_ids == greedy_by_hand(case, prompt, 12)
        assert output.outputs[0].finish_reason == "length"


def test_a_seed_gives_its_text_whatever_else_runs() -> None:
    params = [SamplingParams(max_tokens=20, seed=seed, ignore_eos=True) for seed in (1, 2, 1)]
    prompts = [prompt_of(20)] * 3
    together = [one.outputs[0].token_ids for one in run(engine_of(model_of("flash")), prompts, params)]
    alone = run(engine_of(model_of("flash"), prefix_cache=False), prompts[:1], params[0])[0].outputs[0].token_ids
    assert together[0] == together[2] == alone != together[1]
    unseeded = run(engine_of(model_of("flash")), prompts, SamplingParams(max_tokens=20, ignore_eos=True))
    assert len({one.outputs[0].token_ids for one in unseeded}) == 3


def test_choices_differ_share_the_prompt_and_repeat_with_the_seed() -> None:
    engine, params = engine_of(model_of("glm5")), SamplingParams(n=3, max_tokens=10, seed=5, ignore_eos=True)
    first, again = (run(engine, [prompt_of(300)], params)[0] for _ in range(2))
    texts = [choice.token_ids for choice in first.outputs]
    assert len(set(texts)) == 3
    assert texts == [choice.token_ids for choice in again.outputs]
    # 300 tokens once, what follows the full page for the second request, and of the others one to sample behind.
    assert engine.stats().prompt_tokens == 300 + 44 + 4 * 1


@pytest.mark.parametrize("case", ["flash", "glm5", "glm45"])
def test_beginnings_shared_while_they_run_change_no_text(case: str) -> None:
    """Rows of a running choice's last page are copied, its own and sampled ones stay."""
    start, params = prompt_of(290), SamplingParams(max_tokens=12, temperature=0, ignore_eos=True)
    prompts = [start + prompt_of(length, seed=length) for length in (5, 30, 1, 60)]
    shared, alone = engine_of(model_of(case)), engine_of(model_of(case), prefix_cache=False)
    texts = [[one.outputs[0].token_ids for one in run(engine, prompts, params)] for engine in (shared, alone)]
    assert texts[0] == texts[1]
    assert shared.stats().prompt_tokens == 290 + 5 + 30 + 1 + 60


def test_end_tokens_and_stop_ids() -> None:
    model, end = model_of("flash"), tokenizer().endoftext_id
    prompt = prompt_of(20)
    text = run(engine_of(model), [prompt], GREEDY)[0].outputs[0].token_ids
    biased = {"logit_bias": {end: 100.0}, "max_tokens": 12, "temperature": 0}
    cases = [
        (SamplingParams(**biased), (end,), "stop", None),
        (SamplingParams(**biased, min_tokens=3), (*text[:0],), "stop", None),
        (SamplingParams(**biased, ignore_eos=True), (end,) * 12, "length", None),
        (SamplingParams(max_tokens=12, temperature=0, stop_token_ids=[text[4]]), None, "stop", text[4]),
    ]
    outputs = run(engine_of(model), [prompt] * len(cases), [case[0] for case in cases])
    for output, (params, tokens, reason, stop_reason) in zip(outputs, cases, strict=True):
        choice = output.outputs[0]
        assert (choice.finish_reason, choice.stop_reason) == (reason, stop_reason)
        if params.min_tokens:
            assert len(choice.token_ids) == 4 and choice.token_ids[-1] == end and end not in choice.token_ids[:3]
        elif tokens is None:
            assert choice.token_ids == text[: text.index(text[4]) + 1]
            assert choice.text == tokenizer().decode(list(choice.token_ids[:-1]), skip_special=True)
        else:
            assert choice.token_ids == tokens


def test_a_stop_string_across_tokens_and_the_models_length() -> None:
    model, prompt = model_of("flash"), prompt_of(20)
    params = SamplingParams(max_tokens=None, temperature=0, ignore_eos=True)
    whole = run(engine_of(model, max_model_len=60), [prompt], params)[0].outputs[0]
    assert (len(whole.token_ids), whole.finish_reason) == (40, "length")
    at = next(n for n in range(5, 30) if whole.text.find(whole.text[n : n + 4]) == n)
    stop = whole.text[at : at + 4]
    for include in (False, True):
        params = SamplingParams(
            max_tokens=40, temperature=0, ignore_eos=True, stop=(stop, "never"), include_stop_str_in_output=include
        )
        output = run(engine_of(model), [prompt], params)[0].outputs[0]
        assert (output.finish_reason, output.stop_reason) == ("stop", stop)
        assert output.text == whole.text[: at + 4 * include]
        assert output.token_ids == whole.token_ids[: len(output.token_ids)]


@pytest.mark.parametrize(
    ("prompt", "changes", "words"),
    [
        ([], {}, "empty"),
        ([1] * 64, {}, "shorten it to 63"),
        ([1, VOCAB], {}, "vocabulary is 0 to 419"),
        ([1], {"stop_token_ids": (999,)}, "stop_token_ids has token 999"),
        ([1], {"logit_bias": {999: 1.0}}, "logit_bias has token 999"),
        ([1], {"min_tokens": 1, "stop_token_ids": tuple(range(VOCAB))}, "leaves none"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(prompt: list[int], changes: dict, words: str) -> None:
    engine = engine_of(model_of("flash"), max_model_len=64)
    with pytest.raises(GodwitError, match=words):
        engine.add(prompt, SamplingParams(**changes))
    assert not engine.has_work
    assert_idle(engine)


def test_names_in_work_are_taken() -> None:
    engine = engine_of(model_of("flash"))
    engine.add([1], SamplingParams(), request_id="a")
    with pytest.raises(GodwitError, match="'a' is in work"):
        engine.add([1], SamplingParams(), request_id="a")


def test_abort_frees_pages_and_tells() -> None:
    engine = engine_of(model_of("flash"), max_num_seqs=2)
    names = [engine.add(prompt_of(300, seed=n), SamplingParams(n=2, max_tokens=50)) for n in range(3)]
    engine.step()
    for name in (*names, names[0], "unknown"):
        engine.abort(name)
    deltas = engine.step()
    assert sorted((one.request_id, one.index) for one in deltas) == [
        (name, index) for name in names for index in (0, 1)
    ]
    assert {one.finish_reason for one in deltas} == {"abort"}
    assert not engine.has_work
    assert_idle(engine)


def test_new_weights_are_stamped_and_used() -> None:
    model = model_of("glm5")
    old = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    new = {name: tensor * 1.5 if name == "lm_head.weight" else tensor.clone() for name, tensor in old.items()}
    new["model.embed_tokens.weight"] = old["model.embed_tokens.weight"].flip(0)
    engine, prompt = engine_of(model), prompt_of(280)
    params = SamplingParams(max_tokens=6, temperature=0, logprobs=0, ignore_eos=True)
    try:
        run(engine, [prompt], params)
        engine.add(prompt, params)
        deltas: list[Delta] = [*engine.step(), *engine.step()]
        assert engine.swap_weights(new) == 1
        while engine.has_work:
            deltas += engine.step()
        assert [delta.weight_versions for delta in deltas] == [(0,)] * 2 + [(1,)] * 4
        tokens = [*prompt, *(token for delta in deltas for token in delta.token_ids)]
        with torch.no_grad():
            logprob_TV = model(torch.tensor(tokens)).logits_TV.log_softmax(dim=-1)
        for place, delta in enumerate(deltas[2:], start=len(prompt) + 1):
            assert abs(delta.logprobs[0].logprob - logprob_TV[place, tokens[place + 1]].item()) < 1e-5
        # Pages of the old weights are of no use to the new ones.
        fresh = run(engine, [prompt], params)[0]
        assert fresh.num_cached_tokens == 256 and engine.stats().weight_version == 1
    finally:
        model.load_state_dict(old)


def test_new_weights_without_recomputing_keep_nothing_for_others() -> None:
    engine, prompt = engine_of(model_of("glm5")), prompt_of(280)
    engine.add(prompt, SamplingParams(max_tokens=4, ignore_eos=True))
    engine.step()
    engine.swap_weights({}, recompute=False)
    while engine.has_work:
        engine.step()
    assert engine.stats().preemptions == 0
    assert run(engine, [prompt], GREEDY)[0].num_cached_tokens == 0


def test_weights_of_another_shape_change_nothing() -> None:
    model = model_of("flash")
    engine, before = engine_of(model), model.state_dict()["lm_head.weight"].clone()
    with pytest.raises(GodwitError, match="no_such"):
        engine.swap_weights({"lm_head.weight": before + 1, "no_such": before})
    assert torch.equal(model.state_dict()["lm_head.weight"], before) and engine.weight_version == 0
