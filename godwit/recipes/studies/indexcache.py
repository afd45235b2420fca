"""Which indexers can go, and does training make up for them? The claims of IndexCache (arXiv 2603.12201) at our scale.

Without training, for each seed: a greedy search on calibration rows, then held-out loss and retrieval of the searched,
the uniform and the similarity-DP plan at 1/4 and 1/8. With training (`indexcache:nano_warmup`, then
`indexcache:nano_sparse`) at 1/4: uniform and searched under the multi-layer loss, uniform under the single-layer one,
and as a control the model with all its indexers, trained on as long. Seeds differ in calibration rows, in what is
measured on, and in the order of the training text; the model is one.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from godwit.data.recall import Task
from godwit.indexcache.result import SearchResult, num_kept
from godwit.indexcache.searching import search
from godwit.models.families import config_from_hf
from godwit.models.teaching import IndexLoss
from godwit.models.weights.reader import read_config
from godwit.nn.share_plan import SharePlan
from godwit.recipes.studies._findings import Claim, Findings, Line, at_most, more_than_noise, no_more_than_noise
from godwit.recipes.studies._journal import Journal
from godwit.recipes.studies._quality import Test, columns, quality, rows_of
from godwit.recipes.studies._stages import stage_config, trained
from godwit.train.plots import Curve, line_plot

RATIOS = (4, 8)
WAYS = ("uniform", "searched", "similarity")
TRAINED_RATIO = 4
TRAINED: tuple[tuple[str, str, IndexLoss], ...] = (
    ("all F, trained on", "full", "multi"),
    ("uniform 1/4, multi-layer loss", "uniform", "multi"),
    ("searched 1/4, multi-layer loss", "searched", "multi"),
    ("uniform 1/4, single-layer loss", "uniform", "single"),
)
AS_GOOD = 0.5
"""Percent of the loss: the quality that Godwit asks of 1/4."""
EARLY, FLAT = 0.4, 0.1
"""The paper's first 20 of 46 flips are nearly free; here the first two fifths may cost a tenth of the whole rise."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `godwit study indexcache`."""

    model: str
    """folder of a model with an indexer in every layer, or a finished run"""
    seeds: int = 3
    """repetitions, see above"""
    recipe: str = "indexcache:nano"
    """training: the variants of this name with _warmup and _sparse behind it"""
    sources: tuple[str, ...] = ()
    """training data instead of the recipe's, as in --data.sources of godwit train"""
    tokens: int | None = None
    """tokens of each training stage instead of the recipe's"""
    text: tuple[str, ...] = ("stdlib@1", "recall@1?docs=400&chars=24000")
    """sources: held-out documents for the loss, others for calibration"""
    seq_len: int = 4096
    """tokens of a row of text"""
    rows: int = 8
    """rows for the loss, for each seed"""
    calibration_rows: int = 8
    """rows for the search, for each seed"""
    tasks: tuple[Task, ...] = ("needle", "multi_key", "tracking")
    """retrieval tasks; none leaves retrieval out"""
    retrieval_tokens: int = 4096
    """length of a retrieval question with its haystack"""
    samples: int = 50
    """questions for each task and seed"""


def num_parts(options: Options) -> int:
    """Parts of the journal."""
    return options.seeds * (2 + len(RATIOS) * len(WAYS) + len(TRAINED))


def study(options: Options, journal: Journal) -> Findings:
    """Search, measure, train and measure for each seed."""
    num_layers = config_from_hf(read_config(Path(options.model))).num_hidden_layers
    seeds = [_one_seed(options, journal, seed, num_layers) for seed in range(options.seeds)]
    lines = tuple(Line(name=name, values=columns([seed.figures[name] for seed in seeds])) for name in seeds[0].figures)
    searches = [seed.search for seed in seeds]
    held = f"{options.rows} held-out rows of {options.seq_len} tokens ({' '.join(options.text)})"
    asked = f"{options.samples} questions a task over {options.retrieval_tokens} tokens" if options.tasks else "none"
    searched = ", ".join(str(each.plan_at(num_kept(1 / TRAINED_RATIO, num_layers))) for each in searches)
    return Findings(
        title=f"Shared indexers for {options.model}",
        setting=f"{options.seeds} seeds, {num_layers} layers; loss: nats per token on {held}; retrieval: {asked}; "
        f"searched on {searches[0].num_tokens:,} other tokens, 1/4: {searched}. Mean ± standard error.",
        columns=tuple(dict.fromkeys(name for line in lines for name in line.values)),
        lines=lines,
        claims=tuple(_claims({line.name: line.values for line in lines}, searches)),
        plots=(_curve(searches), _recalls(seeds)),
    )


@dataclass(frozen=True, kw_only=True)
class _Seed:
    search: SearchResult
    figures: dict[str, dict[str, Any]]


def _one_seed(options: Options, journal: Journal, seed: int, num_layers: int) -> _Seed:
    """The search and the figures of every line of the table."""
    source, folder = Path(options.model), journal.folder / f"seed-{seed}"
    rows = rows_of(
        options.text, source, journal.folder / "text", num_rows=options.rows, seq_len=options.seq_len, seed=seed
    )
    test = Test(
        rows=rows, tasks=options.tasks, num_tokens=options.retrieval_tokens, num_samples=options.samples, seed=seed
    )

    def searching() -> dict[str, Any]:
        calibration = rows_of(
            options.text,
            source,
            journal.folder / "text",
            num_rows=options.calibration_rows,
            seq_len=options.seq_len,
            seed=seed,
            split="train",
        )
        return search(source, calibration, keep=1, out=folder / "search", seed=seed).to_json()

    found = SearchResult.from_json(journal.part(f"seed {seed}: search", searching))
    plans = {(way, ratio): _plan(way, ratio, found, num_layers) for ratio in RATIOS for way in WAYS}
    figures = {"all F": journal.part(f"seed {seed}: all F", lambda: quality(source, test))}
    for (way, ratio), plan in plans.items():
        name = f"{way} 1/{ratio}"
        figures[name] = journal.part(f"seed {seed}: {name}", lambda plan=plan: quality(source, test, plan=plan))
    for name, way, index_loss in TRAINED:
        plan = SharePlan.all_full(num_layers) if way == "full" else plans[way, TRAINED_RATIO]

        def distilled(plan: SharePlan = plan, index_loss: IndexLoss = index_loss, way: str = way) -> dict[str, Any]:
            own = folder / f"{way}-{index_loss}"
            return quality(_distilled(options, journal, source, own, plan, index_loss, seed), test)

        figures[name] = journal.part(f"seed {seed}: {name}", distilled)
    return _Seed(search=found, figures=figures)


def _plan(way: str, ratio: int, found: SearchResult, num_layers: int) -> SharePlan:
    """A plan that keeps one indexer in `ratio`."""
    count = num_kept(1 / ratio, num_layers)
    if way == "searched":
        return found.plan_at(count)
    if way == "uniform":
        return SharePlan.named(f"1/{ratio}", num_layers)
    pattern = next(each.pattern for each in found.baselines if each.name == way and each.num_full == count)
    return SharePlan.parse(pattern, num_layers)


def _distilled(
    options: Options,
    journal: Journal,
    source: Path,
    folder: Path,
    plan: SharePlan,
    index_loss: IndexLoss,
    seed: int,
) -> Path:
    """The model after warm-up and sparse stage under a plan; its folder."""
    model = source
    for stage in ("warmup", "sparse"):
        config = stage_config(options, stage, model, journal, seed=seed)
        stages = tuple(dataclasses.replace(each, index_loss=index_loss) for each in config.stages)
        model = trained(dataclasses.replace(config, plan=str(plan), stages=stages), folder / stage)
    return model


def _claims(lines: dict[str, dict[str, tuple[float, ...]]], searches: list[SearchResult]) -> list[Claim]:
    """The paper's claims, by loss and, where it was measured, by retrieval."""
    multi, searched, single = (lines[name] for name, *_ in TRAINED[1:])
    claims = []
    for ratio in RATIOS:
        uniform, best = lines[f"uniform 1/{ratio}"], lines[f"searched 1/{ratio}"]
        text = f"without training, searched beats uniform at 1/{ratio}"
        claims += [
            more_than_noise(f"{text}, by {what}", values, unit=unit) for what, values, unit in _gain(uniform, best)
        ]
    percent = [100 * (a / b - 1) for a, b in zip(multi["loss"], searched["loss"])]
    text = "after multi-layer distillation, uniform is as good as searched"
    claims.append(at_most(f"{text}: loss at most {AS_GOOD} % above", percent, AS_GOOD, unit="%"))
    if "retrieval" in multi:
        lost = [100 * (b - a) for a, b in zip(multi["retrieval"], searched["retrieval"])]
        claims.append(at_most(f"{text}: retrieval at most 2 points below", lost, 2.0, unit="points"))
    text = "without the cross-layer loss, uniform is worse"
    claims += [more_than_noise(f"{text}, by {what}", values, unit=unit) for what, values, unit in _gain(single, multi)]
    for ratio in RATIOS:
        uniform, similar = lines[f"uniform 1/{ratio}"], lines[f"similarity 1/{ratio}"]
        text = f"similarity-DP is no better than uniform at 1/{ratio}"
        claims += [
            no_more_than_noise(f"{text}, by {what}", values, unit=unit)
            for what, values, unit in _gain(uniform, similar)
        ]
    shares = [_early_share(each) for each in searches]
    text = f"the loss curve's first {EARLY:.0%} of flips cost at most {FLAT:.0%} of its whole rise"
    return [*claims, at_most(text, shares, FLAT, unit="of the rise")]


def _gain(
    worse: dict[str, tuple[float, ...]], better: dict[str, tuple[float, ...]]
) -> list[tuple[str, list[float], str]]:
    """How much `better` is better, seed by seed: by loss, and by retrieval if there is one."""
    gains = [("loss", [a - b for a, b in zip(worse["loss"], better["loss"])], "nats per token")]
    if "retrieval" in worse:
        points = [100 * (b - a) for a, b in zip(worse["retrieval"], better["retrieval"])]
        gains.append(("retrieval", points, "points"))
    return gains


def _early_share(found: SearchResult) -> float:
    """The part of the curve's rise that its first flips cost; a curve that does not rise is flat."""
    rise = found.losses[-1] - found.full_loss
    early = found.losses[max(0, round(EARLY * len(found.losses)) - 1)] - found.full_loss
    return early / rise if rise > 0 else 0.0


def _curve(searches: list[SearchResult]) -> tuple[str, str, str]:
    curves = [
        Curve(steps=range(len(each.losses) + 1), values=[each.full_loss, *each.losses], name=f"seed {seed}", dots=True)
        for seed, each in enumerate(searches)
    ]
    return (
        "Loss as layers give up their indexer",
        "greedy search, calibration rows, nats per counted token",
        line_plot(curves, ylabel="loss", xlabel="layers without an indexer of their own"),
    )


def _recalls(seeds: list[_Seed]) -> tuple[str, str, str]:
    """Recall by layer after training, mean over seeds."""
    curves = []
    for name, *_ in TRAINED:
        by_layer = [fmean(values) for values in zip(*(seed.figures[name]["recall"] for seed in seeds))]
        curves.append(Curve(steps=range(len(by_layer)), values=by_layer, name=name, dots=True))
    note = "share of dense attention on the selected positions, mean over seeds; the lower, the worse served"
    return "Attention recalled by layer, after training", note, line_plot(curves, ylabel="recall", xlabel="layer")
