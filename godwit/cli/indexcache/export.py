"""Write the checkpoint of a sharing plan: the plan in its config, the indexers that it does without left out.

Examples:
  godwit indexcache export MODEL --plan FSSSFSSSFSSS --out shared
  godwit indexcache export MODEL --search search/ --keep 1/4 --out shared

MODEL is a Hugging Face folder or a finished run. Weights are copied byte for byte, a piece at a time, so that memory
does not grow with the model; quantised ones too. The folder appears whole or not at all.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from godwit.base.errors import GodwitError
from godwit.cli.figures import size
from godwit.cli.indexcache.flags import lines, plan_of
from godwit.cli.options import Positional, parse
from godwit.cli.targets import model_folder

if TYPE_CHECKING:
    from godwit.indexcache.exporter import Exported


@dataclass(frozen=True)
class Options:
    """Options of `godwit indexcache export`."""

    model: Annotated[Positional[str], tyro.conf.arg(metavar="MODEL")]
    """folder of a model with indexers, or of a finished run"""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder to write to"""
    plan: Annotated[str, tyro.conf.arg(metavar="FSSS...")] = ""
    """one letter a layer: F keeps its indexer, S reuses the one before"""
    search: str = ""
    """folder of godwit indexcache search, instead of a plan"""
    keep: str = ""
    """with --search: layers that keep their indexer, as a fraction or a number"""
    json: bool = False
    """print JSON"""


def run(arguments: list[str]) -> int:
    """Export, then say what was left out and what to type."""
    options = parse(Options, arguments, verb="indexcache export", about=__doc__)
    if bool(options.plan) == bool(options.search):
        raise GodwitError("give either --plan FSSS... or --search FOLDER --keep 1/4")
    if options.keep and not options.search:
        raise GodwitError("--keep cuts a search's plan; give --search FOLDER with it")
    source = model_folder(options.model)
    from godwit.indexcache.exporter import export

    plan = plan_of(options.search, options.keep)[0].pattern if options.search else options.plan
    done = export(source, plan, options.out, show_progress=True)
    print(json.dumps(_as_json(done), indent=2) if options.json else "\n".join(_lines(done)))
    return 0


def _as_json(done: "Exported") -> dict[str, Any]:
    return {
        "out": str(done.folder),
        "plan": done.config.plan.pattern,
        "dropped_layers": done.dropped_layers,
        "dropped_bytes": done.dropped_bytes,
        "total_bytes": done.total_bytes,
        "notes": done.notes,
    }


def _lines(done: "Exported") -> list[str]:
    plan = done.config.plan
    share = done.dropped_bytes / done.total_bytes
    left = (
        "nothing was left out"
        if not done.dropped_layers
        else (
            f"left out {size(done.dropped_bytes)} of {size(done.total_bytes)} ({share:.2%}): the indexers of layers "
            + ", ".join(map(str, done.dropped_layers))
        )
    )
    mtp = ["the MTP layer keeps its own indexer"] if done.config.num_nextn_predict_layers else []
    head = [f"{done.folder}: {done.config.model_type}, {plan.num_full} of {len(plan.pattern)} layers have indexers"]
    return [*head, left, *mtp, *done.notes, "", *lines(plan, str(done.folder))]
