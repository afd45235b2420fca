"""What sharing gains: prefill and decoding under dense attention, plain DSA and plans that share, in one run.

    indexer share   (time in indexers of one DSA run) / (time of that run); of decoding, whose steps may be one compiled
                    call, by difference: N / (N - 1) of what DSA takes longer than a plan with one indexer
    bound           time of DSA less the time of the indexers that the plan drops: Amdahl's law for this machine
    reached         bound / time under the plan; 1 is all that dropping indexers can give

A model that does not fit is timed as a slice (`godwit.indexcache.slices`). Weights do not matter for time, so
published shapes run on random ones. Index keys in the cache are counted, not timed.

Letters: T tokens.
"""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from godwit.base.config import from_json, to_json
from godwit.base.errors import GodwitError
from godwit.base.files import read_json, write_json
from godwit.base.machine import provenance
from godwit.indexcache.result import SearchResult, num_kept
from godwit.indexcache.sides import DECODE, DSA, LEAST, METHODS, PREFILL, SIDES, indexers_of
from godwit.indexcache.timing import Stopwatch, interleaved, timed_methods
from godwit.models.count import memory
from godwit.models.decoder import Decoder
from godwit.models.indexed import IndexedConfig
from godwit.nn.share_plan import SharePlan

FILE_NAME = "bench.json"
RATIOS = (2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One way to run one piece of work.

    Attributes:
        work: "prefill" (all tokens) or "decode" (one token more).
        length: tokens of context.
        side: "dense", "DSA", or the name of a plan.
        seconds: median of the rounds.
        rounds: each round; empty for a slice, whose seconds are sums of parts.
        bound: the Amdahl bound in seconds; None for dense and DSA.
        indexers: seconds in indexers; of DSA only.
    """

    work: str
    length: int
    side: str
    seconds: float
    rounds: tuple[float, ...] = ()
    bound: float | None = None
    indexers: float | None = None


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """All timings, and what is needed to read them.

    Attributes:
        model: as the user named it.
        note: how a slice was put together, or "".
        base: the plan called "DSA".
        plans: pattern by name.
        index_bytes: bytes of index keys that a token has in the cache, in bfloat16, by side.
        cache_bytes: bytes of its whole cache under `base`.
        clock: "wall" or "cpu".
    """

    model: str
    note: str
    num_layers: int
    topk: int
    base: str
    plans: dict[str, str]
    timings: tuple[Timing, ...]
    index_bytes: dict[str, int]
    cache_bytes: int
    clock: str
    threads: int
    device: str
    dtype: str
    machine: dict[str, Any] = dataclasses.field(default_factory=dict)

    def find(self, work: str, length: int, side: str) -> Timing | None:
        """One timing, or None if it was not taken."""
        found = [each for each in self.timings if (each.work, each.length, each.side) == (work, length, side)]
        return found[0] if found else None

    def lengths(self, work: str) -> list[int]:
        """Context lengths of one kind of work, ascending."""
        return sorted({each.length for each in self.timings if each.work == work})

    def speedup(self, timing: Timing) -> float:
        """How many times as fast as DSA."""
        base = self.find(timing.work, timing.length, DSA)
        assert base is not None, "every length has a DSA side"
        return base.seconds / timing.seconds

    def save(self, folder: str | Path) -> Path:
        """Write `bench.json` into `folder`."""
        path = Path(folder) / FILE_NAME
        write_json(path, to_json(self))
        return path

    @classmethod
    def load(cls, folder: str | Path) -> "BenchResult":
        """Read what `save` wrote."""
        path = Path(folder) / FILE_NAME
        return from_json(cls, read_json(path), str(path))


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What to time and how.

    Attributes:
        lengths: tokens of context.
        rounds: of each side; the median counts.
        dense_up_to: longest context that dense attention is timed on too.
        works: which work.
        steps: tokens of one decoding round.
        clock: "wall" or "cpu", see `godwit.indexcache.timing`.
    """

    lengths: tuple[int, ...]
    rounds: int = 3
    dense_up_to: int = 16_384
    works: tuple[str, ...] = (PREFILL, DECODE)
    steps: int = 8
    clock: str = "wall"

    def check(self, config: IndexedConfig) -> None:
        """Refuse what would say nothing.

        Raises:
            GodwitError: a context that the model does not take, or one in which nothing is selected.
        """
        longest, topk = config.max_position_embeddings, config.index_topk
        room = self.steps if DECODE in self.works else 0
        wrong = [length for length in self.lengths if not topk < length <= longest - room]
        if not self.lengths or wrong:
            raise GodwitError(
                f"context lengths {list(self.lengths)} must lie above index_topk {topk} (up to it indexers do not run) "
                f"and leave room for {room} tokens below the model's {longest}; give --lengths, e.g. "
                f"--lengths {min(4 * topk, longest - room)}"
            )
        if self.rounds < 1 or self.steps < 1:
            raise GodwitError(f"rounds {self.rounds}, steps {self.steps}: give at least 1 of each")
        Stopwatch(self.clock)
        if not self.works or set(self.works) - set(SIDES):
            raise GodwitError(f"works {list(self.works)}: choose from {', '.join(SIDES)}")


def plans_for(base: SharePlan, ratios: Sequence[int] = RATIOS) -> dict[str, SharePlan]:
    """The paper's uniform plans FSFS..., FSSSFSSS..., as far as `base` has the indexers they ask for."""
    found = {}
    for ratio in ratios:
        plan = SharePlan.from_freq(len(base.pattern), ratio, 1)
        if ratio < len(base.pattern) and all(base.is_full(n) for n in range(len(base.pattern)) if plan.is_full(n)):
            found[f"1/{ratio}"] = plan
    return found


def searched_plans(result: SearchResult, ratios: Sequence[int] = RATIOS) -> dict[str, SharePlan]:
    """A search's plans, as far as it went and its start had as many indexers."""
    found = {}
    for ratio in ratios:
        keep = num_kept(1 / ratio, result.num_layers)
        if result.plan.num_full <= keep < result.start.count("F"):
            found[f"1/{ratio}"] = result.plan_at(keep)
    return found


def bench(
    model: Decoder,
    options: BenchOptions,
    *,
    name: str = "model",
    plans: Mapping[str, SharePlan] | None = None,
    on_run: Callable[[], None] = lambda: None,
) -> BenchResult:
    """Time a whole model.

    Args:
        model: a decoder with indexers, in eval mode.
        options: what to time.
        name: of the model, for the record.
        plans: by the name they are shown under; None for the uniform ones.
        on_run: called after each timed run, for progress; there are `num_runs` of them.
    """
    config, plans = base_config(model.config), dict(plans or {})
    plans = plans or plans_for(config.plan)
    options.check(config)
    watch = Stopwatch(options.clock, device=model.lm_head_weight.device)
    timings: list[Timing] = []
    for length in options.lengths:
        for work in options.works:
            sides = SIDES[work](model, length, plans, dense=length <= options.dense_up_to, steps=options.steps)
            timings += _timings(work, length, sides, model, plans, options, watch, on_run)
    return record(config, plans, timings, options, name=name, note="", parameter=model.lm_head_weight)


def num_runs(options: BenchOptions, num_plans: int) -> int:
    """How often `bench` calls `on_run`."""
    dense = sum(length <= options.dense_up_to for length in options.lengths)
    return len(options.works) * options.rounds * (len(options.lengths) * (num_plans + 2) + dense)


def base_config(config: Any) -> IndexedConfig:
    """The config, if it has indexers."""
    if not isinstance(config, IndexedConfig):
        raise GodwitError(f"a {config.model_type} model has no indexers to share; godwit convert gives it some")
    return config


@torch.inference_mode()
def _timings(
    work: str,
    length: int,
    sides: dict[str, Callable[[], object]],
    model: Decoder,
    plans: Mapping[str, SharePlan],
    options: BenchOptions,
    watch: Stopwatch,
    on_run: Callable[[], None],
) -> list[Timing]:
    """Every side in turn. Of a prefill, each round runs DSA once more with its indexers timed."""
    for run in sides.values():
        run()  # compiles, and fills what is kept
    found_indexers = indexers_of(model)
    owners, indexers = list(found_indexers), list(found_indexers.values())
    spent: list[list[float]] = []
    share: list[float] = []

    def watched() -> None:
        with timed_methods(indexers, METHODS, watch) as seconds:
            total = watch.time(sides[DSA])
        spent.append([sum(times) for times in seconds])
        share.append(sum(spent[-1]) / total)

    if LEAST not in sides:
        sides = sides | {LEAST: watched}
    taken = interleaved(sides, rounds=options.rounds, watch=watch, on_run=on_run)
    scale = options.steps if work == DECODE else 1
    seconds = {side: statistics.median(times) / scale for side, times in taken.items()}
    if spent:
        # The share of the watched run, applied to the others: what watching costs is not called indexer time.
        each = {n: statistics.median(run[place] for run in spent) for place, n in enumerate(owners)}
        in_indexers = seconds[DSA] * statistics.median(share)
    else:
        each = dict.fromkeys(owners, 1.0)
        in_indexers = max(0.0, seconds[DSA] - seconds[LEAST]) * len(owners) / max(1, len(owners) - 1)
    part = {n: in_indexers * each[n] / sum(each.values()) for n in each}
    found = []
    for side in (name for name in sides if name != LEAST):
        dropped = sum(part[n] for n in part if side in plans and not plans[side].is_full(n))
        found.append(
            Timing(
                work=work,
                length=length,
                side=side,
                seconds=seconds[side],
                rounds=tuple(time / scale for time in taken[side]),
                bound=seconds[DSA] - dropped if side in plans else None,
                indexers=in_indexers if side == DSA else None,
            )
        )
    return found


def record(
    config: IndexedConfig,
    plans: Mapping[str, SharePlan],
    timings: Sequence[Timing],
    options: BenchOptions,
    *,
    name: str,
    note: str,
    parameter: torch.Tensor,
) -> BenchResult:
    """Timings with sizes and provenance."""
    patterns = {side: plan.pattern for side, plan in plans.items()}
    shared = {side: dataclasses.replace(config, indexer_types=plan.types) for side, plan in plans.items()}
    return BenchResult(
        model=name,
        note=note,
        num_layers=config.num_hidden_layers,
        topk=config.index_topk,
        base=config.plan.pattern,
        plans=patterns,
        timings=tuple(timings),
        index_bytes={side: memory(each).index_cache_per_token for side, each in ({DSA: config} | shared).items()},
        cache_bytes=memory(config).cache_per_token,
        clock=options.clock,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(parameter.device) if parameter.is_cuda else "cpu",
        dtype=str(parameter.dtype).removeprefix("torch."),
        machine=provenance(),
    )
