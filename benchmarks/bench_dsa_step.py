"""One training step of sparse adaptation (the model by its loss, indexers by theirs) on bench-nano, by length.

    python benchmarks/bench_dsa_step.py                     # 2,048 and 8,192 tokens: speed, memory, share per op
    python benchmarks/bench_dsa_step.py --lengths 2048 8192 16384 --json out.json
    python benchmarks/bench_dsa_step.py --threads 1 --cpu   # CPU time: comparable on a machine that others use too

A step is forward, backward, clipping and fused AdamW of `Stage(trains="both", attention="sparse")`, one document.
Lengths take turns in every round. Peak memory is a process of its own: high-water mark during steps less what was
resident before the first one. Checked, with a word and the exit code: memory grows at most linearly with the length
(10 % tolerance), and the longest step makes at least half the tokens a second of the shortest. There is nothing to
compare with elsewhere: Transformers cannot train an indexer.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from bench_nano import BENCH_NANO  # pyrefly: ignore[missing-import]
from peak import peak_bytes  # pyrefly: ignore[missing-import]

from godwit.base.machine import provenance
from godwit.dist.world import World
from godwit.models.families import config_from_hf
from godwit.models.init import build
from godwit.nn.context import AttnContext
from godwit.ops.backends import Op
from godwit.train.guard import clip_gradients, gradient_norms
from godwit.train.objective import MicroBatch, Objective, Scales

Step = Callable[[int], float]
# A process's first steps also load compiled code; its share must not hide or fake growth.
MEMORY_TOLERANCE = 1.1
LEAST_SPEED = 0.5


def make_step() -> Step:
    """A function that takes one step on so many random tokens and returns the loss."""
    objective = Objective(build(config_from_hf(BENCH_NANO), seed=0)).train()
    named = list(objective.model.named_parameters())
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4, fused=True)

    def step(length: int) -> float:
        tokens_T = torch.randint(0, BENCH_NANO["vocab_size"], (length,), generator=torch.Generator().manual_seed(1))
        labels_T = F.pad(tokens_T[1:], (0, 1), value=-100)
        micro = MicroBatch(tokens_T, AttnContext.single(length), (labels_T,))
        scales = Scales.of(micro.counts(), mtp_weight=0.0, balance_weight=1e-4)
        losses = objective(micro, scales, dense=False, trains="both")
        losses.total.backward()
        clip_gradients(named, gradient_norms(named, World()).groups, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return losses.total.item()

    return step


def in_turn(step: Step, lengths: list[int], rounds: int, clock: Callable[[], float]) -> dict[int, list[float]]:
    """Seconds of every step."""
    for length in lengths:
        step(length)
    seconds: dict[int, list[float]] = {length: [] for length in lengths}
    for _ in range(rounds):
        for length in lengths:
            start = clock()
            step(length)
            seconds[length].append(clock() - start)
    return seconds


def peak_memory(length: int, threads: int) -> int:
    """Bytes a step needs on top of the resident model, optimiser states included, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_memory, (length, threads))


def _measure_memory(length: int, threads: int) -> int:
    torch.set_num_threads(threads)
    step = make_step()
    # Compiled code is loaded by a short step first.
    step(512)
    return peak_bytes(lambda: [step(length) for _ in range(2)])


def shares(step: Step, length: int) -> list[tuple[str, float]]:
    """The operators that take the most time of their own, in per cent of a step; compiled loops count as their op's."""
    call = Op.__call__

    def recorded_call(op: Op, *args: Any, **kwargs: Any) -> Any:
        with torch.profiler.record_function(f"op {op.name}"):
            return call(op, *args, **kwargs)

    with patch.object(Op, "__call__", recorded_call), torch.profiler.profile() as recorded:
        step(length)
    events = sorted(recorded.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return [(event.key, 100 * event.self_cpu_time_total / total) for event in events[:12]]


def main() -> int:
    """Run, print and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--rounds", type=int, default=3, help="steps of each length that are timed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cpu", action="store_true", help="CPU seconds instead of wall-clock seconds, minima not medians"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lengths, step = sorted(set(options.lengths)), make_step()
    seconds = in_turn(step, lengths, options.rounds, time.process_time if options.cpu else time.perf_counter)
    best = min if options.cpu else statistics.median
    results = []
    for length in lengths:
        found = {"tokens": length, "tokens_per_second": length / best(seconds[length])}
        found |= {"peak_bytes": peak_memory(length, options.threads), "shares": shares(step, length)}
        results.append(found)
        print(f"{length} tokens  {found['tokens_per_second']:7.0f} tokens/s   {found['peak_bytes'] / 1e6:6.0f} MB")
        for name, share in found["shares"]:
            print(f"  {share:5.1f} %  {name}")
    short, long = results[0], results[-1]
    speed = long["tokens_per_second"] / short["tokens_per_second"]
    growth = long["peak_bytes"] / short["peak_bytes"] / (long["tokens"] / short["tokens"])
    checks = {"speed": speed >= LEAST_SPEED, "memory": growth <= MEMORY_TOLERANCE}
    print(f"{long['tokens']} against {short['tokens']} tokens: speed {speed:.2f} x, memory {growth:.2f} x of linear")
    print("checks: " + ", ".join(f"{name} {'holds' if holds else 'FAILS'}" for name, holds in checks.items()))
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": provenance(), "results": results, "checks": checks}, indent=2))
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
