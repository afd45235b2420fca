"""The search against brute force, with and without what makes it cheap, and what it refuses."""

import dataclasses
import itertools
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from godwit.base.errors import GodwitError
from godwit.indexcache import baselines
from godwit.indexcache.calibration import Calibration, Row
from godwit.indexcache.engine import DecoderEngine, DecoderRow
from godwit.indexcache.greedy import flip
from godwit.indexcache.result import SearchResult
from godwit.indexcache.searching import search
from tests.indexcache.tiny import SEQ_LEN, TOPK, config, model, tokens

NUM_LAYERS = 8


@cache
def tiny():
    return model()


@cache
def plain_losses() -> dict[str, float]:
    """Every pattern of eight layers, by whole forward passes."""
    losses = {}
    tokens_T, borders_S = torch.cat(tokens()), torch.tensor([0, SEQ_LEN, 2 * SEQ_LEN])
    labels_T = tokens_T.roll(-1).index_fill(0, borders_S[1:] - 1, -100)
    for letters in itertools.product("FS", repeat=NUM_LAYERS - 1):
        plan = "F" + "".join(letters)
        with torch.inference_mode():
            losses[plan] = float(F.cross_entropy(tiny()(tokens_T, borders_S, plan=plan).logits_TV.double(), labels_T))
    return losses


@cache
def straight() -> SearchResult:
    return search(tiny(), tokens(), keep=1)


def test_the_greedy_path_is_the_true_greedy_path() -> None:
    losses = plain_losses()
    assert len(set(losses.values())) > 100, "sharing must matter"
    plan, order = "F" * NUM_LAYERS, []
    assert straight().full_loss == pytest.approx(losses[plan], rel=1e-6)
    for found in straight().losses:
        left = [layer for layer in range(1, NUM_LAYERS) if plan[layer] == "F"]
        best = min(left, key=lambda layer: losses[flip(plan, layer)])
        order.append(best)
        plan = flip(plan, best)
        assert found == pytest.approx(losses[plan], rel=1e-6)
    assert straight().order == tuple(order)
    for baseline in straight().baselines:
        assert baseline.loss == pytest.approx(losses[baseline.pattern], rel=1e-6)


@pytest.mark.parametrize("memory", [0, 20_000, 60_000])
def test_what_is_kept_changes_no_bit(memory: int) -> None:
    found = search(tiny(), tokens(), keep=1, memory=memory)
    assert dataclasses.replace(found, counters=straight().counters) == straight()
    assert found.counters.layer_evaluations > straight().counters.layer_evaluations


def test_the_counter_is_the_number_of_layers_that_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    plain = DecoderRow.step
    monkeypatch.setattr(DecoderRow, "step", lambda *given: calls.append(given[1]) or plain(*given))
    for memory in (0, 30_000, 1 << 30):
        calls.clear()
        counters = search(tiny(), tokens(), keep=3, memory=memory, baselines=False).counters
        assert counters.layer_evaluations == len(calls)
        assert counters.naive_layer_evaluations == 2 * NUM_LAYERS * (7 + 6 + 5 + 4 + 3)
        assert counters.layer_evaluations <= (0.55 if memory > 1 << 20 else 0.75) * counters.naive_layer_evaluations


def test_packed_rows_are_their_documents() -> None:
    parts = tokens(rows=3)
    packed = Row.of(torch.cat(parts), torch.tensor([0, SEQ_LEN, 2 * SEQ_LEN, 3 * SEQ_LEN]))
    together = search(tiny(), [packed], keep=4, baselines=False)
    apart = search(tiny(), parts, keep=4, baselines=False)
    assert together.order == apart.order
    assert together.losses == pytest.approx(apart.losses, rel=1e-6)
    assert together.num_counted == apart.num_counted == 3 * (SEQ_LEN - 1)


def test_blocks_flip_one_layer_each_a_step() -> None:
    losses = plain_losses()
    found = search(tiny(), tokens(), keep=3, blocks=2, baselines=False)
    assert found.pinned == (0, 4) and found.method == "blocks"
    plan, place = "F" * NUM_LAYERS, 0
    for together in (2, 2, 1):
        best = []
        for block in (range(1, 4), range(5, 8)):
            left = [layer for layer in block if plan[layer] == "F"]
            best.append(min(left, key=lambda layer: losses[flip(plan, layer)]))
        best.sort(key=lambda layer: losses[flip(plan, layer)])
        for layer in best[:together]:
            plan = flip(plan, layer)
            assert found.order[place] == layer
            assert found.losses[place] == pytest.approx(losses[plan], rel=1e-6)
            place += 1
    assert found.counters.plan_evaluations < straight().counters.plan_evaluations


def test_stage_starts_stay_and_baselines_know_no_stages() -> None:
    found = search(tiny(), tokens(), keep=4, stage_starts=(3, 5))
    assert found.pinned == (0, 3, 5) and not {0, 3, 5} & set(found.order)
    assert found.baselines == ()


def test_the_lazy_search_asks_less_and_says_how_often_it_agreed() -> None:
    found = search(tiny(), tokens(), keep=1, lazy=True, check_lazy=True)
    counters = found.counters
    assert found.method == "lazy" and counters.lazy_steps_checked == 6
    assert 0 <= counters.lazy_steps_agreed <= 6
    assert counters.plan_evaluations < straight().counters.plan_evaluations
    losses, plan = plain_losses(), "F" * NUM_LAYERS
    agreed = 0
    for place, layer in enumerate(found.order):
        left = [n for n in range(1, NUM_LAYERS) if plan[n] == "F"]
        agreed += place > 0 and min(left, key=lambda n: losses[flip(plan, n)]) == layer
        plan = flip(plan, layer)
        assert found.losses[place] == pytest.approx(losses[plan], rel=1e-6)
    assert agreed == counters.lazy_steps_agreed
    unchecked = search(tiny(), tokens(), keep=1, lazy=True)
    assert (unchecked.order, unchecked.losses) == (found.order, found.losses)
    assert unchecked.counters.layer_evaluations == counters.layer_evaluations


def test_a_model_that_shares_already_is_searched_on() -> None:
    start = "FFSFFFSF"
    sharing = model(indexer_types=tuple("full" if letter == "F" else "shared" for letter in start))
    found = search(sharing, tokens(), keep=3)
    assert found.start == start and not {2, 6} & set(found.order) and found.plan.num_full == 3
    assert found.baselines == ()


def test_long_counts_the_tokens_that_gain_from_afar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which tokens count is what two forward passes of each say, with the whole row and with its last tokens."""
    from godwit.dist.world import World
    from godwit.indexcache import objective

    monkeypatch.setattr(objective, "LEAST_TOKENS", 4)
    rows = Calibration.of(tokens(rows=2, length=96)).rows
    engine = DecoderEngine(tiny())
    (first, second) = objective.counted_rows(engine, rows, objective="long", world=World(), window=16)
    for before, after in zip(rows, (first, second), strict=True):
        kept_T = after.labels_T >= 0
        assert 0 < kept_T.sum() < 80 and not kept_T[:16].any()
        assert torch.equal(after.labels_T[kept_T], before.labels_T[kept_T])
        with torch.inference_mode():
            full_T = F.cross_entropy(tiny()(before.tokens_T).logits_TV[:-1], before.tokens_T[1:], reduction="none")
            for place in range(16, 95, 5):
                begin = (place // 8) * 8 - 8
                short = tiny()(before.tokens_T[begin : place + 1]).logits_TV[-1]
                loss = F.cross_entropy(short[None], before.tokens_T[place + 1 : place + 2])
                gain = float(loss - full_T[place])
                if abs(gain - objective.LEAST_GAIN) > 1e-3:
                    assert bool(kept_T[place]) == (gain > objective.LEAST_GAIN), place


def test_the_long_objective_searches_over_its_tokens() -> None:
    rows = tokens(rows=2, length=1100)
    found = search(model(num_hidden_layers=3, max_position_embeddings=2048), rows, keep=2, objective="long")
    assert found.objective == "long" and 0 < found.num_counted < 2 * (1100 - 512)


def test_similarity_plans_are_the_best_of_all() -> None:
    generator = torch.Generator().manual_seed(3)
    matrix = torch.rand(7, 7, generator=generator).tril(-1).tolist()

    def worth(plan: str) -> float:
        return sum(matrix[n][plan.rindex("F", 0, n)] for n, letter in enumerate(plan) if letter == "S")

    for count in range(1, 8):
        plans = ["F" + "".join(rest) for rest in itertools.product("FS", repeat=6)]
        best = max(worth(plan) for plan in plans if plan.count("F") == count)
        found = baselines.similar_plan(matrix, count)
        assert found.num_full == count and worth(str(found)) == pytest.approx(best)


def test_similarity_is_the_cosine_of_attention_outputs() -> None:
    with DecoderEngine(tiny()) as engine:
        matrix_NN = baselines.similarity(engine, Calibration.of(tokens()).rows)
    assert torch.equal(matrix_NN, matrix_NN.tril(-1))
    below = matrix_NN[torch.ones(8, 8).tril(-1).bool()]
    assert below.abs().max() <= 1 and below.std() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0}, "keep is 0; give a fraction of the layers such as 1/4, or a number of layers from 1 to 8"),
        ({"keep": 9}, "keep is 9; give"),
        ({"keep": 8}, "there is nothing to search; give less than 8"),
        ({"keep": 2, "stage_starts": (2, 4)}, "layers \\[0, 2, 4\\] are never flipped"),
        ({"stage_starts": (8,)}, "stage start 8 must be a layer with an indexer"),
        ({"blocks": 9}, "blocks is 9; the model has 8 layers"),
        ({"blocks": 0}, "blocks is 0"),
        ({"blocks": 2, "lazy": True}, "lazy and blocks do not go together"),
        ({"blocks": 3, "stage_starts": (4,)}, "3 blocks and stages that start at"),
        ({"check_lazy": True}, "add --lazy"),
        ({"memory": -1}, "memory is -1 bytes"),
        ({"objective": "lang"}, "objective 'lang': did you mean 'long'"),
        ({"objective": "long"}, "only 0 calibration tokens gain 0.5 nats"),
    ],
)
def test_wrong_options_say_what_is_right(options: dict, message: str) -> None:
    with pytest.raises(GodwitError, match=message):
        search(tiny(), tokens(), **options)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (tokens(length=TOPK), "no document longer than index_topk 8 .* sharing would be invisible"),
        ([], "no calibration rows"),
        (torch.full((SEQ_LEN,), 64), "token 64; this model's vocabulary is 0 to 63"),
        (torch.zeros(SEQ_LEN), "flat integer tensor"),
        ([Row.of(torch.zeros(SEQ_LEN).long()).with_labels(torch.full((SEQ_LEN,), -100))], "no calibration token"),
    ],
)
def test_wrong_calibration_says_what_is_right(rows, message: str) -> None:
    with pytest.raises(GodwitError, match=message):
        search(tiny(), rows, keep=4)


def test_a_dense_model_is_sent_to_convert() -> None:
    from godwit.models.families.glm4_moe_lite import Config
    from godwit.models.init import build

    shared = {name: getattr(config(), name) for name in ("vocab_size", "hidden_size", "num_hidden_layers")}
    dense = build(Config(**shared, num_nextn_predict_layers=0, num_attention_heads=2, num_key_value_heads=2))
    with pytest.raises(GodwitError, match="no indexers to share; godwit convert MODEL gives it some"):
        search(dense, tokens(), keep=4)


def test_damaged_weights_are_noticed() -> None:
    broken = model()
    broken.model.layers[3].mlp.experts.down_proj.data[0, 0, 0] = float("nan")
    with pytest.raises(GodwitError, match="NaN"):
        search(broken, tokens(), keep=4)
