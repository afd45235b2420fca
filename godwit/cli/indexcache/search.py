"""Search which layers can give up their indexer, and what each costs in language-model loss.

Examples:
  godwit indexcache search MODEL --keep 1/4                   down to a quarter of the indexers, on Python's own sources
  godwit indexcache search MODEL --keep 1/4 --data my_texts/ more.jsonl
  godwit indexcache search MODEL --keep 1/8 --data stdlib@1 recall@1 --objective long --refine
  godwit indexcache search MODEL --keep 12 --blocks 4         the best flip of each of four blocks at once
  godwit indexcache search MODEL --keep 1/4 --stage-starts 20 40 60
  godwit indexcache search MODEL --keep 1/4 --hf              run by Transformers (any model of the DSA family)
  torchrun --nproc-per-node 2 -m godwit indexcache search MODEL --keep 1/4

MODEL is a Hugging Face folder or the folder of a finished run. The result is OUT/search.json: the order in which layers
give up their indexer and the loss after each, hence the plan of every ratio down to --keep. Stopped at any point, the
same command goes on from OUT/journal.jsonl.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from godwit.cli.indexcache._options import DataOptions, calibrate, model_name, open_model, parse_bytes, result_folder
from godwit.cli.indexcache._table import table
from godwit.cli.options import parse
from godwit.cli.verbs.train import command_name
from godwit.indexcache.result import parse_keep


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Options of `godwit indexcache search`."""

    keep: Annotated[str, tyro.conf.arg(metavar="1/4")] = "1/4"
    """how many layers keep an indexer: a fraction (rounded up) or a number of layers"""
    objective: str = "all"
    """which tokens count: all, or long (those that need more context than the last 512 tokens)"""
    blocks: int = 1
    """flip the best layer of each of so many blocks at once: as many times fewer forward passes"""
    lazy: bool = False
    """ask again only layers that can still win by what they cost before; may differ from the full search"""
    check_lazy: bool = False
    """compare each lazy choice with the full one and count how often they agree"""
    stage_starts: tuple[int, ...] = ()
    """first layers of pipeline stages, which always keep their indexer"""
    baselines: bool = True
    """compare with uniform, similarity and random plans"""
    refine: bool = False
    """behind the search, move single indexers between their neighbours while that lowers the loss"""
    memory: Annotated[str, tyro.conf.arg(metavar="4GB")] = "4GB"
    """states to keep between plans, all processes together; changes the time only"""
    json: bool = False
    """print JSON"""


def run(arguments: list[str]) -> int:
    """Search, print, write."""
    options = parse(Options, arguments, verb="indexcache search", about=__doc__)
    keep, memory = parse_keep(options.keep), parse_bytes(options.memory)
    folder = result_folder(options)
    from godwit.dist.world import join_world
    from godwit.indexcache.searching import search

    with join_world() as world:
        engine = open_model(options, world)
        result = search(
            engine,
            calibrate(options, engine, folder, world),
            out=folder,
            world=world,
            keep=keep,
            objective=options.objective,
            blocks=options.blocks,
            lazy=options.lazy,
            check_lazy=options.check_lazy,
            stage_starts=options.stage_starts,
            baselines=options.baselines,
            refine=options.refine,
            memory=memory,
            seed=options.seed,
        )
        if not world.is_first:
            return 0
    if options.json:
        print(json.dumps(result.to_json(), indent=2))
    else:
        print(table(result))
        print(f"\n  {Path(folder, 'search.json')}   the result; journal.jsonl beside it has every row's loss")
        words = f"{command_name()} indexcache"
        print(f"  next: {words} quality {model_name(options.model)} --search {folder}   what each plan still finds")
        print(
            f"        {words} export {model_name(options.model)} --search {folder} --keep {options.keep} --out shared"
        )
    return 0
