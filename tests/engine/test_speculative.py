"""Drafts change the speed and nothing else: the same greedy text, and the same draws under sampling."""

from collections import Counter

import pytest
import torch

from godwit.engine.engine import Engine
from godwit.engine.params import SamplingParams
from godwit.models.draft import Drafter
from godwit.nn.indexer import Indexer
from tests.engine.test_logprobs import assert_forward
from tests.engine.tiny import engine_of, model_of, prompt_of, run

PROMPTS = [prompt_of(n, seed=n) for n in (5, 100, 300)]


class Oracle:
    """Proposes what is known to come, with every third token wrong: all lengths of acceptance."""

    def __init__(self, engine: Engine, texts: dict[tuple[int, ...], tuple[int, ...]]):
        self.engine, self.texts, self.calls = engine, texts, 0

    def __call__(self, hidden_TD, following, sequences, counts, wanted):
        proposed = []
        for sequence, want in zip(sequences, wanted, strict=True):
            choice = next(one for one in self.engine._scheduler.running if one.sequence is sequence)
            text = self.texts[choice.request.prompt_ids][choice.num_output :][:3] if want else ()
            self.calls += 1
            proposed.append([token if (self.calls + place) % 3 else token ^ 1 for place, token in enumerate(text)])
        return proposed


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("case", ["flash", "glm5"])
def test_text_is_that_without_drafts(case: str, temperature: float) -> None:
    params = SamplingParams(max_tokens=40, temperature=temperature, seed=3, ignore_eos=True, logprobs=1)
    plain = run(engine_of(model_of(case, True)), PROMPTS, params)
    own = run(engine_of(model_of(case, True), speculate=3), PROMPTS, params)
    engine = engine_of(model_of(case, True), speculate=3)
    texts = {one.prompt_token_ids: one.outputs[0].token_ids for one in plain}
    engine._drafter = Oracle(engine, texts)
    known = run(engine, PROMPTS, params)
    for expected, *outputs in zip(plain, own, known, strict=True):
        for output in outputs:
            assert output.outputs[0].token_ids == expected.outputs[0].token_ids
            assert_forward(engine.model, output)
    stats = engine.stats()
    assert 0.3 < stats.drafts_accepted / stats.drafts_proposed < 0.8 and stats.num_steps < 30


def test_stops_inside_accepted_drafts() -> None:
    """A stop id, a stop string and a length in the middle of what a step accepts: nothing behind it is told."""
    model, greedy = model_of("flash", True), SamplingParams(max_tokens=20, temperature=0, ignore_eos=True)
    plain = run(engine_of(model), PROMPTS[:1], greedy)[0].outputs[0]
    for changes in ({"stop_token_ids": (plain.token_ids[5],)}, {"stop": (plain.text[7:9],)}, {"max_tokens": 6}):
        params = SamplingParams(**({"max_tokens": 20, "temperature": 0, "ignore_eos": True} | changes))
        expected = run(engine_of(model), PROMPTS[:1], params)[0].outputs[0]
        engine = engine_of(model, speculate=3)
        engine._drafter = Oracle(engine, {tuple(PROMPTS[0]): plain.token_ids})
        assert run(engine, PROMPTS[:1], params)[0].outputs[0] == expected


class Likeliest:
    """Proposes one table's entry behind each text: accepted as often as that token is drawn."""

    def __init__(self, engine: Engine, table: dict[tuple[int, ...], int]):
        self.engine, self.table = engine, table

    def __call__(self, hidden_TD, following, sequences, counts, wanted):
        choices = {id(one.sequence): one for one in self.engine._scheduler.running}
        return [[self.table[tuple(choices[id(one)].token_ids)]] for one in sequences]


def test_the_distribution_under_sampling() -> None:
    """1,000 texts of three tokens against their exact probabilities; the third is drawn behind a draft or not."""
    model, prompt = model_of("flash", True), PROMPTS[0]
    probability: dict[tuple[int, ...], float] = {(): 1.0}
    table: dict[tuple[int, ...], int] = {}
    for _ in range(3):
        longer: dict[tuple[int, ...], float] = {}
        for text, p in probability.items():
            with torch.no_grad():
                best = (model(torch.tensor([*prompt, *text])).logits_TV[-1] / 0.9).topk(3)
            table[(*prompt, *text)] = int(best.indices[0])
            for token, q in zip(best.indices.tolist(), best.values.softmax(dim=0).tolist(), strict=True):
                longer[(*text, token)] = p * q
        probability = longer
    engine = engine_of(model, speculate=1, num_pages=200)
    engine._drafter = Likeliest(engine, table)
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(8):
        params = SamplingParams(n=125, max_tokens=3, temperature=0.9, top_k=3, seed=seed, ignore_eos=True)
        counts.update(choice.token_ids for choice in run(engine, [prompt], params)[0].outputs)
    assert engine.stats().drafts_accepted > 250 < engine.stats().drafts_proposed - engine.stats().drafts_accepted
    assert set(counts) <= set(probability)
    chi = sum((counts[text] - 1000 * p) ** 2 / (1000 * p) for text, p in probability.items())
    # 26 degrees of freedom: 45.6 is exceeded once in 100.
    assert chi < 45.6


@pytest.mark.parametrize("case", ["flash", "glm5", "glm52"])
@pytest.mark.parametrize("length", [10, 70])
def test_the_first_draft_is_the_prediction_layers_guess(case: str, length: int) -> None:
    """Against the training pass over the same tokens, compiled (short pieces) and not."""
    model, tokens = model_of(case, True), torch.tensor(prompt_of(length + 1))
    with torch.no_grad():
        context = model.context(tokens)
        hidden_TD = model.features(tokens, context, num_mtp_depths=1).mtp_hidden[0]
        expected = (hidden_TD @ model.lm_head_weight.T).argmax(dim=-1).tolist()
    for piece in (length, 7):
        cache = model.new_cache(num_pages=1, mtp=True)
        drafter, sequence = Drafter(model, cache=cache, num_drafts=3), cache.open()
        for start in range(0, length, piece):
            part = tokens[start : min(start + piece, length)]
            state_TD = model.extend(part, cache, sequence, hidden=True).hidden_TD
            following = tokens[start + 1 : start + 1 + len(part)].tolist()
            drafts = drafter(state_TD, following, [sequence], [len(part)], [True])[0]
        assert len(drafts) == 3 and drafts[0] == expected[length - 1]


@pytest.mark.parametrize("piece", [1, 50])
def test_only_step_0_scores(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """Later steps attend to step 0's selection and the rows that guesses add, in both ways of computing."""
    model = model_of("glm5", True)
    cache = model.new_cache(num_pages=1, mtp=True)
    drafter, sequence = Drafter(model, cache=cache, num_drafts=3), cache.open()
    tokens = torch.tensor(prompt_of(100))
    model.extend(tokens[: 100 - piece], cache, sequence)
    state_TD = model.extend(tokens[-piece:], cache, sequence, hidden=True).hidden_TD
    seen, plain = [], drafter._run
    if piece > 1:
        monkeypatch.setattr(drafter, "_compiled", None)
    scored: list[int] = []
    over_cache = Indexer.over_cache
    monkeypatch.setattr(Indexer, "over_cache", lambda self, *args: scored.append(1) or over_cache(self, *args))

    def run_and_see(hidden_TD, following, sequences, starts, counts, rows_TK):
        output = plain(hidden_TD, following, sequences, starts, counts, rows_TK)
        seen.append((starts[0], rows_TK, output[1]))
        return output

    monkeypatch.setattr(drafter, "_run", run_and_see)
    drafter(state_TD, [5] * piece, [sequence], [piece], [True])
    (_, given, chosen), (at_1, rows_1, _), (at_2, rows_2, _) = seen
    assert given is None and (at_1, at_2) == (100, 101)
    assert rows_1[0].tolist() == [*chosen[-1].tolist(), 100] and rows_2[0].tolist() == [*rows_1[0].tolist(), 101]
    assert len(scored) == (piece > 1)


def test_guesses_stay_inside_the_pages_there_are() -> None:
    model = model_of("flash", True)
    cache = model.new_cache(num_pages=1, mtp=True)
    drafter, sequence = Drafter(model, cache=cache, num_drafts=3), cache.open()
    for length, expected in ((254, 3), (255, 2), (256, 1)):
        fresh = prompt_of(length)[sequence.length :]
        state_TD = model.extend(torch.tensor(fresh), cache, sequence, hidden=True).hidden_TD
        assert len(drafter(state_TD, [1] * len(fresh), [sequence], [len(fresh)], [True])[0]) == expected
