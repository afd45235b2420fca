"""Measure what sharing loses: loss and retrieval, under dense attention, DSA and every plan of a search.

Examples:
  godwit indexcache quality MODEL --search runs/indexcache-MODEL
  godwit indexcache quality MODEL --search search/ --data my_texts/ --samples 0
  godwit indexcache quality MODEL --plan FSSSFSSSFSSS 1/4

A plan that keeps the loss can still lose what stands far back, so look here before you choose one. Retrieval asks for
words that stand in facts strewn over code, at least 512 tokens back; --samples 0 leaves it out. Rows of text are none
that the search saw, if --data, --seq-len and --seed are the search's. --hf leaves dense attention out. Written is
OUT/quality.json.
"""

import json
from dataclasses import dataclass
from typing import Literal

from godwit.base.errors import GodwitError
from godwit.base.progress import Progress
from godwit.cli.indexcache._options import DataOptions, calibrate, open_model, result_folder
from godwit.cli.options import parse
from godwit.cli.targets import model_folder


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Options of `godwit indexcache quality`."""

    rows: int = 4
    """rows of text that losses are taken of"""
    search: str = ""
    """folder of godwit indexcache search: all its plans"""
    plan: tuple[str, ...] = ()
    """other plans: letters, or 1/4 for a uniform one"""
    tasks: tuple[Literal["needle", "multi_key", "tracking"], ...] = ("needle", "multi_key", "tracking")
    """retrieval tasks: one fact, one of many, chains of facts"""
    samples: int = 8
    """of each task; 0 for models that were never taught to answer them"""
    json: bool = False
    """print JSON"""


def run(arguments: list[str]) -> int:
    """Measure, print, write."""
    options = parse(Options, arguments, verb="indexcache quality", about=__doc__)
    if not options.search and not options.plan:
        raise GodwitError("give plans to compare: --search FOLDER, --plan FSSSFSSS, or both")
    if options.samples < 0:
        raise GodwitError(f"samples is {options.samples}; give 0 (no retrieval) or more")
    from godwit.base.config import to_json
    from godwit.dist.world import World
    from godwit.indexcache.quality import num_steps, quality
    from godwit.indexcache.quality_text import lines
    from godwit.indexcache.result import SearchResult
    from godwit.nn.share_plan import SharePlan
    from godwit.text.tokenizer import Tokenizer

    source, folder = model_folder(options.model), result_folder(options)
    searched = SearchResult.load(options.search) if options.search else None
    engine = open_model(options, World())
    plans = {text: SharePlan.named(text, engine.num_layers) for text in options.plan}
    path = () if searched is None else searched.path
    seen = 0 if searched is None else -(-searched.num_tokens // searched.seq_len)
    drawn = calibrate(options, engine, folder, World(), seen=seen).rows[seen:]
    patterns = [plan.pattern for plan in (engine.plan, *plans.values(), *path)]
    with Progress(
        num_steps(
            len(engine.rows(drawn)),
            patterns,
            num_tasks=len(options.tasks),
            num_samples=options.samples,
            dense=not options.hf,
        ),
        what="measuring",
        unit="passes",
    ) as progress:
        found = quality(
            engine,
            drawn,
            plans=plans,
            path=path,
            tokenizer=Tokenizer.load(source),
            tasks=options.tasks,
            num_samples=options.samples,
            on_step=lambda: progress.advance(1),
        )
    file = found.save(folder)
    print(json.dumps(to_json(found), indent=2) if options.json else "\n".join([*lines(found), "", f"  {file}"]))
    return 0
