"""The search for a sharing plan at nano size: seconds, what a layer and the head cost, and the count of layers run.

    python benchmarks/bench_search.py                         # 8 rows of 8,192 tokens, down to 3 of 12 indexers
    python benchmarks/bench_search.py --rows 1 --methods lazy
    python benchmarks/bench_search.py --parts                 # only the parts, in seconds

Random tokens through the bundled model: times and counts are those of any text, losses and order say nothing. Run it on
an otherwise idle machine.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch

import godwit
from godwit.base.machine import provenance
from godwit.indexcache.calibration import Row
from godwit.indexcache.engine import DecoderEngine
from godwit.indexcache.searching import search
from godwit.models.decoder import Decoder

METHODS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "greedy, nothing kept": {"memory": 0},
    "lazy": {"lazy": True},
    "blocks": {"blocks": 3},
}


def parts(model: Decoder, tokens_T: torch.Tensor, *, rounds: int = 3) -> dict[str, dict[str, float]]:
    """Least CPU and wall seconds of an F layer, an S layer and the head on one row, interleaved."""
    found: dict[str, dict[str, float]] = {}
    with torch.inference_mode(), DecoderEngine(model) as engine:
        run = engine.enter(Row.of(tokens_T))
        state = run.step(0, run.first, True)
        jobs: dict[str, Callable[[], object]] = {
            "F layer": lambda: run.step(1, state, True),
            "S layer": lambda: run.step(1, state, False),
            "head": lambda: run.losses(state),
        }
        for _ in range(rounds):
            for name, job in jobs.items():
                wall, cpu = time.perf_counter(), time.process_time()
                job()
                spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
                found[name] = {kind: min(spent[kind], found.get(name, spent)[kind]) for kind in spent}
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=8192)
    parser.add_argument("--keep", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["greedy", "lazy"])
    parser.add_argument("--parts", action="store_true", help="only the parts")
    given = parser.parse_args()
    model = godwit.load("nano").eval()
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, model.config.vocab_size, (given.seq_len,), generator=generator) for _ in range(given.rows)]
    report: dict[str, object] = {"threads": torch.get_num_threads(), "parts": parts(model, rows[0])}
    for method in [] if given.parts else given.methods:
        begin = time.perf_counter()
        counters = search(model, rows, keep=given.keep, baselines=False, **METHODS[method]).counters
        share = counters.layer_evaluations / counters.naive_layer_evaluations
        report[method] = {"seconds": time.perf_counter() - begin, "share": share, "plans": counters.plan_evaluations}
    print(json.dumps(report | {"provenance": provenance()}, indent=2))


if __name__ == "__main__":
    main()
