"""The bench's result as rows for a table, on the terminal and in the report, beside the paper's where it has some.

The paper's figures: IndexCache, arXiv 2603.12201, table 1: a 30B model (GLM-4.7-Flash with indexers, 47 layers), SGLang
on a node of eight H100, FP8 index keys; speed-ups over its own DSA.
"""

from godwit.base.aligned import aligned
from godwit.base.progress import short_time
from godwit.indexcache.bench import BenchResult, Timing
from godwit.indexcache.sides import DECODE, DENSE, DSA, PREFILL

PAPER_NAME = "paper, 30B on H100"
# (work, tokens) -> speed-up by plan.
PAPER: dict[tuple[str, int], dict[str, float]] = {
    (PREFILL, 10_000): {"1/2": 1.21, "1/4": 1.27},
    (PREFILL, 60_000): {"1/2": 1.18, "1/4": 1.31},
    (PREFILL, 120_000): {"1/2": 1.30, "1/4": 1.51},
    (PREFILL, 200_000): {"1/2": 1.42, "1/4": 1.82},
    (DECODE, 10_000): {"1/2": 84.5 / 73.5, "1/4": 91 / 73.5},
    (DECODE, 60_000): {"1/2": 80 / 67, "1/4": 89.5 / 67},
    (DECODE, 120_000): {"1/2": 77 / 63, "1/4": 88 / 63},
    (DECODE, 200_000): {"1/2": 73 / 58, "1/4": 86 / 58},
}
# Share of latency in indexers, the same model (figure of the paper).
PAPER_SHARE: dict[tuple[str, int], float] = {
    (PREFILL, 10_000): 0.27,
    (PREFILL, 60_000): 0.50,
    (PREFILL, 120_000): 0.68,
    (PREFILL, 200_000): 0.81,
    (DECODE, 10_000): 0.27,
    (DECODE, 60_000): 0.31,
    (DECODE, 120_000): 0.38,
    (DECODE, 200_000): 0.41,
}
COLUMNS = ("work", "context", "side", "time", "in indexers", "speed-up", "bound", "reached", "index keys")


def rows(result: BenchResult) -> list[tuple[str, ...]]:
    """Cells by line, without the head; a column of the paper's speed-ups is added where any length is one of its."""
    with_paper = has_paper(result)
    found = []
    for timing in sorted(result.timings, key=lambda each: (each.work != PREFILL, each.length)):
        cells = _cells(result, timing)
        if with_paper:
            cells += (_of_paper(timing),)
        found.append(cells)
    return found


def columns(result: BenchResult) -> tuple[str, ...]:
    """The head of `rows`."""
    return (*COLUMNS, PAPER_NAME) if has_paper(result) else COLUMNS


def has_paper(result: BenchResult) -> bool:
    """Whether any context length is one the paper has figures for."""
    return any((timing.work, timing.length) in PAPER for timing in result.timings)


def lines(result: BenchResult) -> list[str]:
    """The table for a terminal."""
    shown = aligned([columns(result), *rows(result)], left=(0, 2))
    how = "processor time" if result.clock == "cpu" else "wall time"
    head = (
        f"{result.model}: {result.num_layers} layers, {result.dtype}, {result.device}, {result.threads} threads, {how}"
    )
    legend = (
        "in indexers: share of DSA's time. bound: speed-up if the indexers left out took no time and all else as long. "
        "reached: bound in time over time taken. index keys: in the cache of one sequence, bfloat16."
    )
    plans = [f"{name:<5} {pattern}" for name, pattern in result.plans.items()]
    return [head, *([result.note] if result.note else []), "", *shown, "", *plans, legend]


def _cells(result: BenchResult, timing: Timing) -> tuple[str, ...]:
    base = result.find(timing.work, timing.length, DSA)
    assert base is not None, "every length has a DSA side"
    keys = result.index_bytes.get(timing.side)
    return (
        timing.work,
        f"{timing.length:,}",
        timing.side,
        short_seconds(timing.seconds),
        "" if timing.indexers is None else f"{timing.indexers / timing.seconds:.0%}",
        "" if timing.side == DSA else f"{result.speedup(timing):.2f} x",
        "" if timing.bound is None else f"{base.seconds / timing.bound:.2f} x",
        "" if timing.bound is None else f"{timing.bound / timing.seconds:.0%}",
        "" if keys is None else f"{keys * timing.length / 1e6:.1f} MB",
    )


def _of_paper(timing: Timing) -> str:
    key = (timing.work, timing.length)
    if timing.side == DSA and key in PAPER_SHARE:
        return f"{PAPER_SHARE[key]:.0%} in indexers"
    speedup = PAPER.get(key, {}).get(timing.side)
    return "" if speedup is None or timing.side == DENSE else f"{speedup:.2f} x"


def short_seconds(seconds: float) -> str:
    """A time with three digits: 6.93 ms, 1.52 s, 2 min 5 s."""
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 60 else short_time(seconds)
