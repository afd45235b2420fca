"""Measure how much of their selections layers have in common: a heat map, its numbers, clusters.

Examples:
  godwit indexcache overlap MODEL
  godwit indexcache overlap MODEL --data my_texts/ --seq-len 4096 --rows 4
  godwit indexcache overlap MODEL --hf --out study

MODEL is a Hugging Face folder or the folder of a finished run. Written are OUT/overlap.json and OUT/overlap.png.
Overlap pictures a model; what can be shared is found by godwit indexcache search.
"""

import json
from dataclasses import dataclass

from godwit.cli.indexcache._options import DataOptions, calibrate, open_model, result_folder
from godwit.cli.options import parse


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Options of `godwit indexcache overlap`."""

    json: bool = False
    """print JSON"""


def run(arguments: list[str]) -> int:
    """Measure, print, write."""
    options = parse(Options, arguments, verb="indexcache overlap", about=__doc__)
    folder = result_folder(options)
    from godwit.dist.world import World
    from godwit.indexcache.overlaps import CLUSTER, REFERENCE, overlap

    engine = open_model(options, World())
    found = overlap(engine, calibrate(options, engine, folder, World()))
    paths = found.save(folder)
    if options.json:
        print(json.dumps(found.to_json(), indent=2))
        return 0
    adjacent = [found.matrix[place][place + 1] for place in range(len(found.layers) - 1)]
    runs = [f"{run[0]}-{run[-1]}" for run in found.clusters]
    print(f"{found.model}: {len(found.layers)} indexers, {found.topk} positions each, {found.num_tokens:,} tokens")
    print(f"neighbouring layers have {found.adjacent_mean:.3f} of their positions in common ", end="")
    print(f"({min(adjacent):.3f} to {max(adjacent):.3f}); by chance {found.chance:.3f}")
    print(f"for reference: {REFERENCE} in the official figure (30B, 2,048 of up to 200K positions)")
    print(f"clusters (neighbours with at least {CLUSTER} in common): {', '.join(runs) or 'none'}")
    print("\n" + "\n".join(f"  {path}" for path in paths))
    return 0
