"""The bench: what it runs is the plan, what it adds up is right, a slice agrees with the whole, mistakes are told."""

import dataclasses
from pathlib import Path

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.cli import main
from godwit.indexcache.bench import BenchOptions, BenchResult, Timing, bench, num_runs, plans_for
from godwit.indexcache.bench_text import columns, lines, rows
from godwit.indexcache.sides import DSA, LEAST, decode_sides, indexers_of
from godwit.indexcache.slices import _pieces, bench_slice, slice_of
from godwit.indexcache.slices import num_runs as slices_runs
from godwit.indexcache.timing import Stopwatch, interleaved, timed_methods
from godwit.models.decoder import Decoder
from godwit.models.families import config_from_hf
from godwit.models.init import build
from godwit.models.weights import save
from godwit.nn.share_plan import SharePlan
from godwit.ops.backends import use
from tests.models.parity import CASES, OWN_CASES

OPTIONS = BenchOptions(lengths=(48,), rounds=1, steps=2, clock="cpu")


def model_of(case: str = "glm5", **changes: object) -> Decoder:
    return build(config_from_hf((CASES | OWN_CASES)[case] | changes), seed=1).eval()


@pytest.fixture(scope="module")
def result() -> BenchResult:
    return bench(model_of(), OPTIONS, name="tiny")


def test_every_side_of_every_work_is_there(result: BenchResult) -> None:
    sides = [(each.work, each.side) for each in result.timings]
    assert sides == [(work, side) for work in ("prefill", "decode") for side in ("dense", "DSA", "1/2")]
    assert result.plans == {"1/2": "FSFS"} and result.index_bytes == {"DSA": 4 * 16 * 2, "1/2": 2 * 16 * 2}
    for each in result.timings:
        assert each.seconds > 0 and (each.bound is not None) == (each.side == "1/2")
        base = result.find(each.work, 48, DSA)
        assert base is not None and base.indexers is not None and 0 <= base.indexers < base.seconds
        if each.bound is not None and base.indexers:
            # Two of four equal indexers are dropped, so about half of their time, whatever the machine does.
            assert 0.2 < (base.seconds - each.bound) / base.indexers < 0.8


def test_results_survive_the_disk(result: BenchResult, tmp_path: Path) -> None:
    result.save(tmp_path)
    assert BenchResult.load(tmp_path) == result


@pytest.mark.parametrize("case", ["glm5", "llama-dsa"])
def test_decoding_runs_the_indexers_of_its_plan_and_forgets(case: str) -> None:
    model = model_of(case)
    sides = decode_sides(model, 48, {"1/2": SharePlan("FSFS")}, dense=True, steps=3)
    expected = {"dense": [0, 0, 0, 0], DSA: [3, 3, 3, 3], LEAST: [3, 0, 0, 0], "1/2": [3, 0, 3, 0]}
    for side, run in sides.items():
        for _ in range(2):  # the second round starts where the first did
            with (
                use(index_topk_paged="reference"),
                timed_methods(list(indexers_of(model).values()), ("over_cache",), Stopwatch("cpu")) as calls,
            ):
                run()
            assert [len(each) for each in calls] == expected[side]
    assert "over_cache" not in vars(indexers_of(model)[0])


def test_a_slice_stands_for_the_whole() -> None:
    """Three layers of the whole, in the whole's own numbers: F, F, S with the same weights give the same states."""
    config = model_of(num_hidden_layers=8).config
    sliced = slice_of(config, num_experts=None, dtype=torch.float32, device="cpu")
    assert sliced.config.plan.pattern == "FFS" and sliced.model.layers[2].mlp is sliced.model.layers[1].mlp
    with torch.inference_mode():
        assert sorted(sliced(torch.arange(40)).indices) == [0, 1]
    # Chunks of 32: more queries than a decoding step takes.
    result = bench_slice(config, dataclasses.replace(OPTIONS, lengths=(120,)), name="tiny")
    for work in ("prefill", "decode"):
        half, quarter = result.find(work, 120, "1/2"), result.find(work, 120, "1/4")
        base = result.find(work, 120, DSA)
        assert half and quarter and base and base.indexers
        # Straight lines in the number of indexers: 4 of 8 dropped, then 6.
        assert (base.seconds - quarter.seconds) * 4 == pytest.approx((base.seconds - half.seconds) * 6)
        assert base.seconds - (quarter.bound or 0) == pytest.approx(base.indexers * 6 / 8)
    assert "a slice of 3 layers was timed" in result.note
    few = slice_of(config, num_experts=4, dtype=torch.float32, device="cpu")
    assert few.config.routed_experts == (4, 2)


def test_a_few_chunks_stand_for_a_whole_prefill() -> None:
    """Costs that are a straight line in what stands before a token add up to what all tokens cost, one by one."""
    for length, topk in ((200_000, 2048), (10_000, 2048), (2050, 2048), (48, 24)):
        pieces = _pieces("prefill", length, OPTIONS, topk)
        assert pieces[0] == (1.0, 0, (topk,)) and all(piece.before >= topk for piece in pieces[1:])
        assert all(piece.before + sum(piece.chunks) <= length for piece in pieces)
        found = sum(
            piece.weight * sum(7.0 + 0.5 * (piece.before + n) for n in range(sum(piece.chunks))) for piece in pieces
        )
        assert found == pytest.approx(sum(7.0 + 0.5 * n for n in range(length)), rel=1e-3)
    runs: list[None] = []
    bench_slice(model_of().config, OPTIONS, name="tiny", on_run=lambda: runs.append(None))
    assert len(runs) == slices_runs(OPTIONS, model_of().config.index_topk)


def test_the_table_does_the_sums() -> None:
    plain = [Timing(work="prefill", length=200_000, side=DSA, seconds=4.0, indexers=3.0)]
    plain.append(Timing(work="prefill", length=200_000, side="1/4", seconds=2.0, bound=1.75))
    made = BenchResult(
        model="made",
        note="",
        num_layers=8,
        topk=24,
        base="F" * 8,
        plans={"1/4": "FSSSFSSS"},
        timings=tuple(plain),
        index_bytes={DSA: 1000, "1/4": 250},
        cache_bytes=5000,
        clock="cpu",
        threads=1,
        device="cpu",
        dtype="float32",
    )
    dsa, quarter = rows(made)
    assert dsa == ("prefill", "200,000", DSA, "4 s", "75%", "", "", "", "200.0 MB", "81% in indexers")
    assert quarter == ("prefill", "200,000", "1/4", "2 s", "", "2.00 x", "2.29 x", "88%", "50.0 MB", "1.82 x")
    assert "processor time" in lines(made)[0] and columns(made)[-1].startswith("paper")
    short = dataclasses.replace(made, timings=tuple(dataclasses.replace(each, length=48) for each in plain))
    assert len(columns(short)) == len(rows(short)[0]) == 9


def test_sides_take_turns() -> None:
    order: list[str] = []
    sides = {name: lambda name=name: order.append(name) for name in "abc"}
    taken = interleaved(sides, rounds=2, watch=Stopwatch("wall"))
    assert order == ["a", "b", "c", "c", "b", "a"] and [len(times) for times in taken.values()] == [2, 2, 2]


def test_plans_ask_only_for_indexers_that_are_there() -> None:
    assert list(plans_for(SharePlan("F" * 12))) == ["1/2", "1/4", "1/8"]
    assert plans_for(SharePlan("FSSSFSSS")) == {"1/4": SharePlan("FSSSFSSS")}
    assert num_runs(BenchOptions(lengths=(48, 96), rounds=2, dense_up_to=50), 3) == 2 * 2 * (2 * 5 + 1)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    model = model_of()
    save(model, model.config, "full")
    words = ["--lengths", "48", "--rounds", "1", "--steps", "1", "--clock", "cpu"]
    assert main(["indexcache", "bench", "full", *words, "--works", "decode", "--out", "b"]) == 0
    shown = capsys.readouterr().out
    assert "full: 4 layers, float32, cpu" in shown and "1/2   FSFS" in shown and "prefill" not in shown
    assert BenchResult.load("b").lengths("decode") == [48]
    assert main(["indexcache", "bench", "--shape", "full/config.json", "--slice", *words]) == 0
    assert "a slice of 3 layers was timed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either a MODEL or --shape"),
        (["full", "--shape", "30b"], "give either a MODEL or --shape"),
        (["--shape", "31b"], "unknown shape '31b': did you mean '30b'"),
        (["full", "--lengths", "24"], "must lie above index_topk 24"),
        (["full", "--lengths", "512"], "leave room for 8 tokens below the model's 512"),
        (["full", "--lengths", "48", "--rounds", "0"], "give at least 1 of each"),
        (["full", "--lengths", "48", "--works", "train"], "choose from prefill, decode"),
        (["full", "--lengths", "48", "--clock", "sun"], "unknown clock 'sun'"),
        (["dense"], "has no indexers to share; godwit convert"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for name, case in (("full", "glm5"), ("dense", "llama")):
        model = model_of(case)
        save(model, model.config, name)
    assert main(["indexcache", "bench", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_shape_that_shares_already_is_no_slice() -> None:
    with pytest.raises(GodwitError, match="F everywhere"):
        bench_slice(model_of("glm5-pattern").config, OPTIONS, name="x")
