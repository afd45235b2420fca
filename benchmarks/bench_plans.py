"""Every plan of one size: what each loses in loss and in retrieval, and where the searched one stands among them.

    python benchmarks/bench_plans.py                              # all 55 that keep 3 of nano's 12 indexers, minutes
    python benchmarks/bench_plans.py --keep 4 --samples 4
    python benchmarks/bench_plans.py --search runs/demo-nano/search

The search sees losses only. Whether that finds plans that still retrieve can be checked where all plans can be tried.
Rows are held-out code, samples those of `godwit.evals.retrieval`, with all three tasks.
"""

import argparse
import json
import tempfile
from itertools import combinations
from pathlib import Path

import torch

import godwit
from godwit.base.aligned import aligned
from godwit.base.machine import provenance
from godwit.base.progress import Progress
from godwit.cli.targets import model_folder
from godwit.data.recall import TASKS
from godwit.indexcache.engine import DecoderEngine
from godwit.indexcache.quality import num_steps, quality
from godwit.indexcache.quality_text import columns, percent, rows
from godwit.indexcache.result import SearchResult
from godwit.nn.share_plan import SharePlan
from godwit.recipes.studies._quality import rows_of
from godwit.text.tokenizer import Tokenizer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--keep", type=int, default=3)
    parser.add_argument("--seq-len", type=int, default=4096)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--search", default="", help="a search's folder: say where its plan stands")
    given = parser.parse_args()
    model, source = godwit.load(given.model).eval(), model_folder(given.model)
    num_layers = model.config.num_hidden_layers
    plans = [
        SharePlan("".join("F" if layer in {0, *others} else "S" for layer in range(num_layers)))
        for others in combinations(range(1, num_layers), given.keep - 1)
    ]
    with tempfile.TemporaryDirectory() as folder:
        drawn = rows_of(("stdlib",), source, Path(folder), num_rows=given.rows, seq_len=given.seq_len, seed=1)
        patterns = [plan.pattern for plan in plans]
        total = num_steps(len(drawn), ["F" * num_layers, *patterns], num_tasks=len(TASKS), num_samples=given.samples)
        with Progress(total, what="measuring", unit="passes") as progress:
            found = quality(
                DecoderEngine(model, name=given.model),
                drawn,
                plans={},
                path=plans,
                tokenizer=Tokenizer.load(source),
                tasks=TASKS,
                num_samples=given.samples,
                on_step=lambda: progress.advance(1),
            )
    ranked = sorted(found.path, key=lambda side: (-side.retrieval, side.loss))
    print("\n".join(aligned([columns(found), *rows(found)[:2]], left=(0,))))
    table = [("retrieval", "loss", "plan")]
    base = found.side("DSA").loss
    table += [(f"{side.retrieval:.1%}", percent(side.loss, base), side.pattern) for side in ranked]
    print("\n".join(["", *aligned(table)]))
    by_loss = [side.pattern for side in sorted(found.path, key=lambda side: side.loss)]
    report = {
        "plans": len(plans),
        "find nothing": sum(side.retrieval == 0 for side in found.path),
        "find three in four": sum(side.retrieval >= 0.75 for side in found.path),
        "rank by loss of the best by retrieval": by_loss.index(ranked[0].pattern) + 1,
    }
    if given.search:
        pattern = SearchResult.load(given.search).plan_at(given.keep).pattern
        report["rank of the searched plan by retrieval"] = [side.pattern for side in ranked].index(pattern) + 1
        report["rank of the searched plan by loss"] = by_loss.index(pattern) + 1
    print(json.dumps(report | {"threads": torch.get_num_threads(), "provenance": provenance()}, indent=2))


if __name__ == "__main__":
    main()
