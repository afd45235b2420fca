"""Models that do not fit, timed as a slice: a layer of each kind, times how many of it the model has.

The slice has three layers: one with a dense feed-forward block (F) if the model has such layers, one with experts (F),
and the same again without an indexer (S; the two share one set of experts in memory). Per-layer times of one pass:

    t(plan) = sum over layers of t(kind, F or S) + t(embedding, norm, head)

where a dense-block layer's S is its F less what the expert layer saves by S. Fewer experts may be held than the model
has: as many are chosen for each token, so the work of a prefill is the same; a decoding step reads fewer weights.

A prefill goes in chunks over a cache, as in engines, and a sample of them is timed: the first `index_topk` tokens, and
behind, where a chunk's time is a straight line in what stands before it, `NODES` chunks in the middle of equal
stretches, which stand for all. 200,000 tokens take minutes instead of hours.
"""

import dataclasses
import statistics
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import psutil
import torch
from torch import nn

from godwit.base.errors import GodwitError
from godwit.indexcache.bench import BenchOptions, BenchResult, Timing, base_config, plans_for, record
from godwit.indexcache.sides import DECODE, DENSE, DSA, METHODS, PREFILL, appending, filled, indexers_of
from godwit.indexcache.timing import Stopwatch, timed_methods
from godwit.models.count import count
from godwit.models.decoder import Decoder
from godwit.models.experts import ExpertConfig
from godwit.models.indexed import IndexedConfig
from godwit.models.init import build
from godwit.nn.share_plan import FULL, SHARED, SharePlan
from godwit.ops.backends import use

NODES = 3  # chunks that are timed of a prefill beyond `index_topk`; two would do if the machine were steady
CHUNK = 2048  # tokens of each
VOCABULARY = 1024  # of the slice; embedding and head of one token are no part of what is compared
MEMORY_SHARE = 0.7  # of what is free, for weights; the rest is for activations


class _Piece(NamedTuple):
    """A part of some work that is run: chunks of new tokens behind `before` others, and how much of the work it is."""

    weight: float
    before: int
    chunks: tuple[int, ...]


class _Parts(NamedTuple):
    """Seconds of some work by part; the dense-block layer comes first and may be missing."""

    full_dense: float
    full: float
    shared: float
    rest: float
    indexer: float


def fits(config: IndexedConfig, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> bool:
    """Whether the whole model's weights can be held beside its activations."""
    return count(config).total * dtype.itemsize < MEMORY_SHARE * free_memory(device)


def free_memory(device: torch.device | str) -> int:
    """Bytes that can still be allocated."""
    device = torch.device(device)
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def bench_slice(
    config: IndexedConfig,
    options: BenchOptions,
    *,
    name: str,
    plans: Mapping[str, SharePlan] | None = None,
    num_experts: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    on_run: Callable[[], None] = lambda: None,
) -> BenchResult:
    """Time a slice of the shape `config` with random weights and put the model's times together from it.

    Args:
        config: a shape whose plan is all F.
        num_experts: experts to hold; None holds all.
        on_run: called after each pass, for progress; there are `num_runs` of them.

    Raises:
        GodwitError: the slice does not fit either; says how many experts would.
    """
    config = base_config(config)
    if config.plan.num_full < config.num_hidden_layers:
        raise GodwitError(f"a slice stands for a model that is F everywhere, and this shape's plan is {config.plan}")
    plans = dict(plans or plans_for(config.plan))
    options.check(config)
    model = slice_of(config, num_experts=num_experts, dtype=dtype, device=device)
    watch = Stopwatch(options.clock, device=device)
    timings: list[Timing] = []
    for length in options.lengths:
        for work in options.works:
            pieces = _pieces(work, length, options, config.index_topk)
            with _by_layers(work, device):
                parts = _parts(model, pieces, length <= options.dense_up_to, options.rounds, watch, on_run)
            timings += _timings(work, length, parts, config, plans)
    held = f", {num_experts} of {config.routed_experts[0]} experts held" if num_experts else ""
    note = (
        f"a slice of {model.config.num_hidden_layers} layers was timed{held}; times of the {config.num_hidden_layers} "
        "layers are sums of its parts, without the output head's full vocabulary"
    )
    if PREFILL in options.works:
        note += f"; prefill is in chunks, of which {NODES} of up to {CHUNK:,} tokens stand for those behind the first"
    return record(config, plans, timings, options, name=name, note=note, parameter=model.lm_head_weight)


def num_runs(options: BenchOptions, topk: int) -> int:
    """How often `bench_slice` calls `on_run` for a model of that `index_topk`."""
    runs = 0
    for length in options.lengths:
        pieces = sum(len(_pieces(work, length, options, topk)) for work in options.works)
        runs += pieces * options.rounds * (1 + (length <= options.dense_up_to))
    return runs


def _pieces(work: str, length: int, options: BenchOptions, topk: int) -> list[_Piece]:
    """What is run of a piece of work, so that weights times seconds add up to the whole of it."""
    if work == DECODE:
        return [_Piece(1 / options.steps, length, (1,) * options.steps)]
    stretch = (length - topk) / NODES
    chunk = max(1, min(CHUNK, int(stretch)))
    middles = [topk + (number + 0.5) * stretch for number in range(NODES)]
    return [_Piece(1.0, 0, (topk,)), *(_Piece(stretch / chunk, round(at - chunk / 2), (chunk,)) for at in middles)]


def slice_of(
    config: IndexedConfig, *, num_experts: int | None, dtype: torch.dtype, device: torch.device | str
) -> Decoder:
    """The slice, with random weights."""
    changes: dict[str, Any] = {"vocab_size": min(config.vocab_size, VOCABULARY)}
    num_dense = 0
    if isinstance(config, ExpertConfig):
        num_dense = min(1, config.first_k_dense_replace)
        changes |= {"first_k_dense_replace": num_dense, "num_nextn_predict_layers": 0}
        if num_experts is not None:
            changes["n_routed_experts"] = num_experts
    types = (FULL,) * (num_dense + 1) + (SHARED,)
    sliced = dataclasses.replace(config, **changes, num_hidden_layers=len(types), indexer_types=types)
    one = dataclasses.replace(sliced, num_hidden_layers=len(types) - 1, indexer_types=types[:-1])
    needed, free = count(one).total * dtype.itemsize, MEMORY_SHARE * free_memory(device)
    if needed > free:
        raise GodwitError(
            f"one layer needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are to be had; "
            "hold fewer experts with --experts, or try --dtype bfloat16"
        )
    model = build(one, dtype=dtype, device=device)
    with torch.device("meta"):
        shared = sliced.layer(len(types) - 1)
    # Everything but the indexer is the F layer's own: same weights, read twice.
    last = model.model.layers[-1]
    _take_over(shared, last)
    model.model.layers.append(shared)
    model.config = sliced
    return model.eval()


def _take_over(module: nn.Module, source: nn.Module) -> None:
    for name, child in source.named_children():
        if name == "self_attn":
            mine = getattr(module, name)
            for part, inner in child.named_children():
                if part != "indexer":
                    setattr(mine, part, inner)
        else:
            setattr(module, name, child)


def _by_layers(work: str, device: torch.device | str) -> AbstractContextManager[None]:
    """A backend asked for by name keeps a decoding step from being one compiled call, where no layer can be timed."""
    if torch.device(device).type != "cpu":
        return nullcontext()
    # What each takes by itself; `compiled` is for a few queries.
    return use(index_topk_paged="compiled" if work == DECODE else "reference")


@torch.inference_mode()
def _parts(
    model: Decoder,
    pieces: list[_Piece],
    dense: bool,
    rounds: int,
    watch: Stopwatch,
    on_run: Callable[[], None],
) -> dict[str, _Parts]:
    """Seconds of the whole work by part, by side; sides and pieces take turns."""
    room = max(piece.before + sum(piece.chunks) for piece in pieces)
    sides = filled(model, room, {}, dense=dense)
    for run, cache in sides.values():  # compiles, and fills what is kept: one piece beyond `index_topk` does
        _timed(model, appending(run, cache, pieces[-1].before, pieces[-1].chunks), watch)
    taken: dict[str, list[list[float]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, (run, cache) in sides.items():
            passes = []
            for piece in pieces:
                times = _timed(model, appending(run, cache, piece.before, piece.chunks), watch)
                passes.append([piece.weight * seconds for seconds in times])
                on_run()
            taken[side].append([sum(part) for part in zip(*passes, strict=True)])
    return {side: _Parts(*map(statistics.median, zip(*sums, strict=True))) for side, sums in taken.items()}


def _timed(model: Decoder, run: Callable[[], object], watch: Stopwatch) -> _Parts:
    """One pass."""
    layers, indexers = list(model.model.layers), list(indexers_of(model).values())
    with timed_methods(layers, ("forward",), watch) as in_layers, timed_methods(indexers, METHODS, watch) as inside:
        total = watch.time(run)
    times = [sum(each) for each in in_layers]
    full, shared = times[-2:]
    return _Parts(times[0] if len(times) == 3 else 0.0, full, shared, total - sum(times), sum(inside[-1]))


def _timings(
    work: str,
    length: int,
    parts: Mapping[str, _Parts],
    config: IndexedConfig,
    plans: Mapping[str, SharePlan],
) -> list[Timing]:
    num_dense = config.first_k_dense_replace if isinstance(config, ExpertConfig) else 0
    found = []
    if DENSE in parts:
        dense = parts[DENSE]
        # Without indexers at work, both expert layers do the same.
        each = (dense.full + dense.shared) / 2
        seconds = dense.rest + num_dense * dense.full_dense + (config.num_hidden_layers - num_dense) * each
        found.append(Timing(work=work, length=length, side=DENSE, seconds=seconds))
    own = parts[DSA]
    saved = own.full - own.shared
    all_full = own.rest + num_dense * own.full_dense + (config.num_hidden_layers - num_dense) * own.full
    in_indexers = config.num_hidden_layers * own.indexer
    found.append(Timing(work=work, length=length, side=DSA, seconds=all_full, indexers=in_indexers))
    for side, plan in plans.items():
        dropped = config.num_hidden_layers - plan.num_full
        found.append(
            Timing(
                work=work,
                length=length,
                side=side,
                seconds=(all_full - dropped * saved),
                bound=(all_full - dropped * own.indexer),
            )
        )
    return found
