"""Time what sharing gains: prefill and decoding under dense attention, DSA and plans that keep 1/2, 1/4, 1/8.

Examples:
  godwit indexcache bench MODEL                              a model, uniform plans
  godwit indexcache bench MODEL --search search/             the plans a search found
  godwit indexcache bench --shape 30b --lengths 10000 60000  random weights of a published shape, beside the paper
  godwit indexcache bench --shape path/to/config.json --lengths 16384

Shapes: 30b (GLM-4.7-Flash with indexers), glm5, deepseek-v3.2, or a config.json. Those that do not fit are timed as a
slice: one layer with and one without an indexer, times the number of layers, and a few chunks of a prefill for all;
the output says so. Sides run in turn and medians count. On a machine that other programs use, --clock cpu --threads 1
counts this process's time alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from godwit.base.errors import GodwitError, did_you_mean
from godwit.base.files import read_json
from godwit.cli.options import Positional, parse
from godwit.cli.targets import model_folder

if TYPE_CHECKING:
    from godwit.indexcache.bench import BenchOptions, BenchResult
    from godwit.models.indexed import IndexedConfig
    from godwit.nn.share_plan import SharePlan

SHAPES = ("30b", "glm5", "deepseek-v3.2")


@dataclass(frozen=True)
class Options:
    """Options of `godwit indexcache bench`."""

    model: Annotated[Positional[str], tyro.conf.arg(metavar="MODEL")] = ""
    """folder of a model with indexers, or of a finished run"""
    shape: str = ""
    """instead of a model: 30b, glm5, deepseek-v3.2 or a config.json; random weights"""
    search: str = ""
    """folder of godwit indexcache search: its plans instead of uniform ones"""
    lengths: tuple[int, ...] = (4096, 16_384)
    """tokens of context"""
    works: tuple[str, ...] = ("prefill", "decode")
    """prefill, decode or both"""
    rounds: int = 3
    """times each side runs"""
    steps: int = 8
    """tokens of a decoding round"""
    dense_up_to: int = 16_384
    """longest context for dense attention"""
    experts: int | None = None
    """of a slice: experts to hold"""
    slice: bool = False
    """time a slice although the whole fits"""
    clock: str = "wall"
    """wall or cpu"""
    threads: int | None = None
    """threads of torch and of compiled loops"""
    dtype: str = "float32"
    """of random weights"""
    device: str = "cpu"
    """cpu or cuda"""
    out: str = ""
    """folder for bench.json"""
    json: bool = False
    """print JSON"""


def run(arguments: list[str]) -> int:
    """Time, print, write."""
    options = parse(Options, arguments, verb="indexcache bench", about=__doc__)
    if bool(options.model) == bool(options.shape):
        raise GodwitError("give either a MODEL or --shape 30b")
    import torch

    from godwit.base.config import to_json
    from godwit.indexcache.bench import BenchOptions
    from godwit.indexcache.bench_text import lines

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise GodwitError("there is no CUDA device here; leave --device cuda out")
    chosen = BenchOptions(
        lengths=options.lengths,
        rounds=options.rounds,
        dense_up_to=options.dense_up_to,
        works=options.works,
        steps=options.steps,
        clock=options.clock,
    )
    result = _timed(options, chosen)
    if options.out:
        result.save(options.out)
    print(json.dumps(to_json(result), indent=2) if options.json else "\n".join(lines(result)))
    return 0


def _timed(options: Options, chosen: "BenchOptions") -> "BenchResult":
    from godwit.indexcache import slices
    from godwit.indexcache.bench import base_config, bench, num_runs, plans_for
    from godwit.indexcache.timing import counting
    from godwit.models.init import build
    from godwit.models.weights import inspect, load
    from godwit.models.weights.reader import as_dtype

    dtype = as_dtype(options.dtype)
    folder = model_folder(options.model) if options.model else None
    config = base_config(inspect(folder).config) if folder else _shape(options.shape)
    chosen.check(config)
    plans = _plans(options.search, config) or plans_for(config.plan)
    name = options.model or options.shape
    whole = not options.slice and options.experts is None
    if whole and (folder is not None or slices.fits(config, dtype=dtype, device=options.device)):
        model = load(folder, device=options.device) if folder else build(config, dtype=dtype, device=options.device)
        with counting(num_runs(chosen, len(plans))) as on_run:
            return bench(model.eval(), chosen, name=name, plans=plans, on_run=on_run)
    with counting(slices.num_runs(chosen, config.index_topk)) as on_run:
        return slices.bench_slice(
            config,
            chosen,
            name=name,
            plans=plans,
            num_experts=options.experts,
            dtype=dtype,
            device=options.device,
            on_run=on_run,
        )


def _plans(search: str, config: "IndexedConfig") -> "dict[str, SharePlan]":
    """A search's plans at the ratios it reaches."""
    if not search:
        return {}
    from godwit.indexcache.bench import searched_plans
    from godwit.indexcache.result import SearchResult

    found = searched_plans(SearchResult.load(search))
    wrong = [plan for plan in found.values() if len(plan.pattern) != config.num_hidden_layers]
    if wrong:
        raise GodwitError(
            f"the search in {search} is of {len(wrong[0].pattern)} layers and this model has "
            f"{config.num_hidden_layers}; search this model"
        )
    return found


def _shape(name: str) -> "IndexedConfig":
    """A published shape, or that of a config.json."""
    from godwit.indexcache.bench import base_config
    from godwit.models.convert import IndexerShape, sparse_config
    from godwit.models.families import config_from_hf
    from godwit.models.published import deepseek_v32_exp, glm5, glm47_flash

    if name.endswith(".json") or Path(name).is_dir():
        file = Path(name) if name.endswith(".json") else Path(name) / "config.json"
        return base_config(config_from_hf(read_json(file)))
    if name not in SHAPES:
        raise GodwitError(f"unknown shape {name!r}: {did_you_mean(name, SHAPES)}, or give a config.json")
    if name == "30b":
        # What the paper's model was made of; how many index heads it has is not published, half is the usual choice.
        return sparse_config(glm47_flash(), IndexerShape())
    return glm5() if name == "glm5" else deepseek_v32_exp()
