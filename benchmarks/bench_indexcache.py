"""Sharing indexers on bench-nano, and on a slice of the paper's 30B shape: what 1/2, 1/4 and 1/8 gain over DSA.

    python benchmarks/bench_indexcache.py                              # bench-nano at 4,096 and 16,384 tokens
    python benchmarks/bench_indexcache.py --paper                      # a slice of the 30B shape, 10K to 200K tokens
    python benchmarks/bench_indexcache.py --threads 1 --clock cpu      # beside other programs

Everything is `godwit indexcache bench`, random weights, sides in turn, medians; see there for what is timed. `bound` is
Amdahl's: the time of DSA less that of the indexers a plan drops. Targets on a quiet machine, two threads, at 16,384
tokens and 1/4: prefill at least 1.8 x, at least 90 % of the bound reached, decoding at least 1.3 x.
"""

import argparse
from pathlib import Path

import torch
from bench_nano import BENCH_NANO  # pyrefly: ignore[missing-import]

from godwit.indexcache import slices
from godwit.indexcache.bench import BenchOptions, base_config, bench, num_runs, plans_for
from godwit.indexcache.bench_text import lines
from godwit.indexcache.timing import counting
from godwit.models.convert import IndexerShape, sparse_config
from godwit.models.families import config_from_hf
from godwit.models.init import build
from godwit.models.published import glm47_flash

PAPER_LENGTHS = (10_000, 60_000, 120_000, 200_000)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", help="tokens of context")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--dense-up-to", type=int, default=16_384)
    parser.add_argument("--paper", action="store_true", help="the 30B shape as a slice instead")
    parser.add_argument("--experts", type=int, help="of the slice: experts to hold, if not all")
    parser.add_argument("--json", type=Path, metavar="FOLDER", help="write bench.json there")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    options = BenchOptions(
        lengths=tuple(asked.lengths or (PAPER_LENGTHS if asked.paper else [4096, 16_384])),
        rounds=asked.rounds,
        dense_up_to=asked.dense_up_to,
        clock=asked.clock,
    )
    if asked.paper:
        shape = sparse_config(glm47_flash(), IndexerShape())
        with counting(slices.num_runs(options, shape.index_topk)) as on_run:
            result = slices.bench_slice(shape, options, name="30B shape", num_experts=asked.experts, on_run=on_run)
    else:
        config = base_config(config_from_hf(BENCH_NANO))
        with counting(num_runs(options, len(plans_for(config.plan)))) as on_run:
            result = bench(build(config).eval(), options, name="bench-nano", on_run=on_run)
    if asked.json is not None:
        result.save(asked.json)
    print("\n".join(lines(result)))


if __name__ == "__main__":
    main()
