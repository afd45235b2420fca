"""Print what to type in each engine for a sharing plan, or which plan each engine makes of a frequency.

Examples:
  godwit indexcache flags FSSSFSSSFSSS                   a plan, one letter a layer
  godwit indexcache flags shared/                        a checkpoint that godwit indexcache export wrote
  godwit indexcache flags search/ --keep 1/4             a search's plan at any ratio
  godwit indexcache flags --freq 4 --layers 78           the plans that engines make of one frequency: they differ
  godwit indexcache flags --freq 4 --offset 3 --layers 78

Where a plan is exactly what an engine makes of some frequency and offset, both are shown; else the pattern alone.
Engines count differently: the paper's FSSSF... is offset 1 for most, 0 for ROCm ATOM, and nothing for the patches.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from godwit.base.errors import GodwitError
from godwit.base.files import read_json
from godwit.cli.options import Positional, parse

if TYPE_CHECKING:
    from godwit.nn.share_plan import SharePlan


@dataclass(frozen=True)
class Options:
    """Options of `godwit indexcache flags`."""

    target: Annotated[Positional[str], tyro.conf.arg(metavar="PLAN_OR_FOLDER")] = ""
    """a plan such as FSSSFSSS, a search's folder, a checkpoint's, or a bundled model's name"""
    keep: str = ""
    """of a search: layers that keep their indexer, as a fraction or a number; default what it was run for"""
    model: str = ""
    """name of the model in what is printed; default the checkpoint's folder"""
    freq: int | None = None
    """instead of a plan: index_topk_freq"""
    offset: int | None = None
    """with --freq: index_skip_topk_offset, passed to each engine under its own name; default each engine's"""
    layers: int | None = None
    """with --freq: number of layers"""
    v4: str = ""
    """folder of a DeepSeek-V4 checkpoint whose layers the plan's letters belong to"""
    json: bool = False
    """print JSON"""


def run(arguments: list[str]) -> int:
    """Print the table."""
    options = parse(Options, arguments, verb="indexcache flags", about=__doc__)
    if options.freq is not None:
        print(_plans(options))
        return 0
    if not options.target:
        raise GodwitError("give a plan such as FSSSFSSS, a folder, or --freq 4 --layers 78; see --help")
    plan, name = plan_of(options.target, options.keep)
    if options.v4:
        plan = _v4(plan, options.v4)
    model = options.model or name
    if options.json:
        print(json.dumps(_as_json(plan, model, only_v4=bool(options.v4)), indent=2))
    else:
        print("\n".join(lines(plan, model, only_v4=bool(options.v4))))
    return 0


def plan_of(target: str, keep: str = "") -> "tuple[SharePlan, str]":
    """The plan that `target` names, and what to call its model."""
    from godwit.indexcache.result import FILE_NAME, SearchResult, parse_keep
    from godwit.models.bundled import names, resolve
    from godwit.nn.share_plan import SharePlan

    folder = resolve(target)
    if not folder.exists():
        if set(target) <= set("FS"):
            return SharePlan(target), "MODEL"
        raise GodwitError(
            f"{target!r} is no folder, no bundled model ({', '.join(names())}) and no plan; a plan has one letter a "
            "layer, F or S: FSSSFSSS"
        )
    if (folder / FILE_NAME).is_file() or folder.is_file():
        found = SearchResult.load(folder)
        return (found.plan_at(parse_keep(keep)) if keep else found.plan), found.model
    if keep:
        raise GodwitError(f"--keep is for a search's folder, and {target} holds no {FILE_NAME}")
    from godwit.cli.targets import model_folder
    from godwit.indexcache.exporter import sparse
    from godwit.models.families import config_from_hf

    checkpoint = model_folder(target)
    return sparse(config_from_hf(read_json(checkpoint / "config.json")), target).plan, str(checkpoint)


def lines(plan: "SharePlan", model: str, *, only_v4: bool = False) -> list[str]:
    """The table for a person."""
    from godwit.indexcache.engines import ENGINES

    full = [layer for layer in range(len(plan.pattern)) if plan.is_full(layer)]
    shown = [
        f"plan     {plan}",
        f"indexers {plan.num_full} of {len(plan.pattern)} layers, counted from 0: {', '.join(map(str, full))}",
    ]
    for key, known in ENGINES.items():
        if only_v4 and key != "deepseek-v4":
            continue
        flags = known.flags(plan, model)
        shown += ["", flags.engine]
        shown += [f"  {flags.pattern}"] if flags.pattern else []
        if flags.uniform:
            shown.append(f"  {'or ' if flags.pattern else ''}{flags.uniform}")
        elif not flags.pattern:
            shown.append("  not possible: no frequency and offset make this plan, and it takes no pattern")
        shown.append(f"    {flags.note}")
    return shown


def _as_json(plan: "SharePlan", model: str, *, only_v4: bool) -> dict[str, Any]:
    from godwit.indexcache.engines import ENGINES

    wanted = {key: known for key, known in ENGINES.items() if not only_v4 or key == "deepseek-v4"}
    engines = {
        key: known.flags(plan, model)._asdict() | {"settings": known.uniform(plan)} for key, known in wanted.items()
    }
    return {"plan": asdict(plan)["pattern"], "num_full": plan.num_full, "engines": engines}


def _plans(options: Options) -> str:
    """What each engine runs for a frequency."""
    from godwit.indexcache.engines import ENGINES

    if options.target or not options.layers:
        raise GodwitError("--freq needs --layers and no plan, e.g. --freq 4 --offset 3 --layers 78")
    rows: dict[str, str] = {}
    for key, known in ENGINES.items():
        settings = {known.freq_key: options.freq}
        if known.offset_key is not None and options.offset is not None:
            settings[known.offset_key] = options.offset
        try:
            rows[key] = known.runs(settings, options.layers).pattern
        except GodwitError as error:
            rows[key] = f"refused: {error}"
    if options.json:
        return json.dumps({"freq": options.freq, "offset": options.offset, "plans": rows}, indent=2)
    width = max(len(known.name) for known in ENGINES.values())
    return "\n".join(f"{ENGINES[key].name:<{width}}  {pattern}" for key, pattern in rows.items())


def _v4(plan: "SharePlan", folder: str) -> "SharePlan":
    from godwit.indexcache.engines import c4_plan

    raw = read_json(Path(folder) / "config.json")
    ratios, num_layers = raw.get("compress_ratios"), raw.get("num_hidden_layers")
    if not isinstance(ratios, list) or not isinstance(num_layers, int):
        raise GodwitError(f"{folder}/config.json has no compress_ratios; give the folder of a DeepSeek-V4 checkpoint")
    return c4_plan(plan.pattern, ratios, num_layers)
