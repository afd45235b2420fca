"""List what there is: recipes, studies, pipelines, benchmarks, published shapes, model families, data sources.

Examples:
  godwit list                 everything
  godwit list recipes         only the recipes, each with its variants
  godwit list recipes --json  for programs
"""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from godwit import recipes
from godwit.base.errors import GodwitError, did_you_mean
from godwit.base.plugins import Room
from godwit.cli.options import Positional, parse
from godwit.cli.targets import families, pipelines, published_models, sources
from godwit.evals.benchmarks import ROOM as BENCHMARKS
from godwit.recipes.studies import ROOM as STUDIES

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Options:
    """Options of `godwit list`."""

    kind: Annotated[Positional[str], tyro.conf.arg(metavar="KIND")] = ""
    """recipes, studies, pipelines, benchmarks, models, families or sources; all of them if left out"""
    json: bool = False
    """print JSON instead of a table"""


def run(arguments: list[str]) -> int:
    """Print the asked-for kinds."""
    options = parse(Options, arguments, verb="list", about=__doc__)
    kinds = {
        "recipes": _recipes,
        "studies": lambda: _room(STUDIES),
        "pipelines": lambda: _room(pipelines()),
        "benchmarks": lambda: _room(BENCHMARKS),
        "models": _models,
        "families": _families,
        "sources": _sources,
    }
    if options.kind and options.kind not in kinds:
        raise GodwitError(f"there is no list of {options.kind!r}: {did_you_mean(options.kind, kinds)}")
    chosen = {kind: kinds[kind]() for kind in ([options.kind] if options.kind else kinds)}
    if options.json:
        print(json.dumps(chosen, indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(_table(kind, rows) for kind, rows in chosen.items()))
    return 0


def _recipes() -> Rows:
    return [
        {"name": name, "summary": recipes.ROOM.summary(name), "variants": recipes.variants(name)}
        for name in recipes.ROOM.names()
    ]


def _models() -> Rows:
    return [{"name": name, "summary": summary} for name, summary in published_models().items()]


def _families() -> Rows:
    return _room(families())


def _sources() -> Rows:
    return _room(sources())


def _room(room: Room) -> Rows:
    return [{"name": name, "summary": room.summary(name)} for name in room.names()]


def _table(kind: str, rows: Rows) -> str:
    width = max((len(row["name"]) for row in rows), default=0)
    lines = [kind]
    for row in rows:
        lines.append(f"  {row['name']:<{width}}  {row['summary']}")
        if row.get("variants"):
            lines.append(f"  {'':<{width}}  " + " ".join(f"{row['name']}:{variant}" for variant in row["variants"]))
    return "\n".join(lines)
