"""Does a dense model survive its conversion to sparse attention? (DeepSeek-V3.2, arXiv 2512.02556.)

For each seed: indexers are added (`godwit convert`, drawn with that seed), warmed up on the dense attention with all
else frozen, then everything is adapted over the selection (`dsa:nano_warmup`, `dsa:nano_sparse`, or another recipe's
stages). The dense model and the three states after it are tried on the same held-out text and retrieval questions,
others for each seed. The adapted model has seen more text than the dense one; at some 100,000 tokens that is little.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from godwit.base.runs import RunFolder
from godwit.data.recall import Task
from godwit.models.convert import IndexerShape, convert
from godwit.recipes.studies._findings import Findings, Line, at_most, more_than_noise
from godwit.recipes.studies._journal import Journal
from godwit.recipes.studies._quality import Test, columns, quality, rows_of
from godwit.recipes.studies._stages import stage_config, trained
from godwit.train.plots import Curve, line_plot

STATES = ("dense", "converted, untrained", "after warm-up", "sparse-adapted")
PARTS_A_SEED = len(STATES)
LOSS_WITHIN, RETRIEVAL_WITHIN = 0.01, 0.02  # what Godwit asks of a conversion: 1 % of the loss, 2 points


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `godwit study dsa`."""

    model: str
    """folder of a dense model with its tokenizer, or a finished run"""
    seeds: int = 3
    """repetitions; a seed draws indexers, the order of the training text, and what is measured on"""
    recipe: str = "dsa:nano"
    """training: the variants of this name with _warmup and _sparse behind it"""
    sources: tuple[str, ...] = ()
    """training data instead of the recipe's, as in --data.sources of godwit train"""
    tokens: int | None = None
    """tokens of each training stage instead of the recipe's"""
    index_topk: int = 256
    """positions each query keeps"""
    index_n_heads: int | None = None
    """heads of each indexer; None is half the attention heads, 8 at least"""
    index_head_dim: int | None = None
    """width of an index head; None is chosen by the model's size"""
    text: str = "stdlib"
    """source whose held-out documents the loss is measured on"""
    seq_len: int = 4096
    """tokens of a row of text"""
    rows: int = 8
    """rows of text for each seed"""
    tasks: tuple[Task, ...] = ("needle", "multi_key", "tracking")
    """retrieval tasks; none leaves retrieval out"""
    retrieval_tokens: int = 4096
    """length of a retrieval question with its haystack"""
    samples: int = 50
    """questions for each task and seed"""


def num_parts(options: Options) -> int:
    """Parts of the journal."""
    return PARTS_A_SEED * options.seeds


def study(options: Options, journal: Journal) -> Findings:
    """Convert, train and measure for each seed."""
    found: dict[str, list[dict[str, Any]]] = {state: [] for state in STATES}
    for seed in range(options.seeds):
        for state, figures in zip(STATES, _one_seed(options, journal, seed), strict=True):
            found[state].append(figures)
    lines = tuple(Line(name=state, values=columns(figures)) for state, figures in found.items())
    names = list(dict.fromkeys(name for line in reversed(lines) for name in line.values))
    held = f"{options.rows} held-out rows of {options.seq_len} tokens ({options.text})"
    asked = f"{options.samples} questions a task over {options.retrieval_tokens} tokens" if options.tasks else "none"
    return Findings(
        title=f"Sparse attention for {options.model}",
        setting=f"{options.seeds} seeds; loss: nats per token on {held}; recall: of dense attention by "
        f"{options.index_topk} positions; retrieval: {asked}. Mean ± standard error.",
        columns=tuple(names),
        lines=lines,
        claims=tuple(_claims({line.name: line for line in lines})),
        plots=(_layers(found), *_curves(options, journal.folder)),
    )


def _one_seed(options: Options, journal: Journal, seed: int) -> list[dict[str, Any]]:
    """Figures of the four states, in order."""
    dense, folder = Path(options.model), journal.folder / f"seed-{seed}"
    rows = rows_of(
        (options.text,), dense, journal.folder / "text", num_rows=options.rows, seq_len=options.seq_len, seed=seed
    )
    test = Test(
        rows=rows,
        tasks=options.tasks,
        num_tokens=options.retrieval_tokens,
        num_samples=options.samples,
        seed=seed,
    )
    shape = IndexerShape(
        index_topk=options.index_topk, index_n_heads=options.index_n_heads, index_head_dim=options.index_head_dim
    )

    def converted() -> dict[str, Any]:
        convert(dense, folder / "converted", shape=shape, seed=seed)
        return quality(folder / "converted", test)

    def stage(name: str, source: Path) -> dict[str, Any]:
        return quality(trained(stage_config(options, name, source, journal, seed=seed), folder / name), test)

    return [
        journal.part(f"seed {seed}: dense", lambda: quality(dense, test)),
        journal.part(f"seed {seed}: converted", converted),
        journal.part(f"seed {seed}: warm-up", lambda: stage("warmup", folder / "converted")),
        journal.part(f"seed {seed}: sparse", lambda: stage("sparse", folder / "warmup" / "model")),
    ]


def _claims(lines: dict[str, Line]) -> list[Any]:
    """Issue by issue: what a conversion has to reach, and that there was something to reach."""
    dense, untrained, _, adapted = (lines[state].values for state in STATES)
    change = [100 * (b / a - 1) for a, b in zip(dense["loss"], adapted["loss"])]
    damage = [a - b for a, b in zip(untrained["loss"], adapted["loss"])]
    claims = [
        at_most("the sparse-adapted loss is within 1 % of the dense one", change, 100 * LOSS_WITHIN, unit="%"),
        more_than_noise("untrained indexers lose more than noise in loss", damage, unit="nats per token"),
    ]
    if "retrieval" in dense:
        lost = [100 * (a - b) for a, b in zip(dense["retrieval"], adapted["retrieval"])]
        claims.append(
            at_most("sparse-adapted retrieval is within 2 points of dense", lost, 100 * RETRIEVAL_WITHIN, unit="points")
        )
        gap = [100 * (a - b) for a, b in zip(adapted["retrieval"], untrained["retrieval"])]
        claims.append(more_than_noise("untrained indexers lose more than noise in retrieval", gap, unit="points"))
    return claims


def _layers(found: dict[str, list[dict[str, Any]]]) -> tuple[str, str, str]:
    """Recall by layer, mean over seeds."""
    curves = []
    for state, figures in found.items():
        if "recall" in figures[0]:
            by_layer = [fmean(values) for values in zip(*(each["recall"] for each in figures))]
            curves.append(Curve(steps=range(len(by_layer)), values=by_layer, name=state, dots=True))
    note = "share of dense attention on the selected positions, mean over seeds"
    return "Attention recalled by layer", note, line_plot(curves, ylabel="recall", xlabel="layer")


def _curves(options: Options, folder: Path) -> list[tuple[str, str, str]]:
    """Validation loss over the selection through both stages, by seed."""

    plots = []
    for stage, title in (("warmup", "Warm-up"), ("sparse", "Sparse adaptation")):
        curves = []
        for seed in range(options.seeds):
            rows = [row for row in RunFolder(folder / f"seed-{seed}" / stage).read_metrics() if "valid_index_kl" in row]
            values = [fmean(row["valid_index_kl"]) for row in rows]
            if rows:
                curves.append(Curve(steps=[row["step"] for row in rows], values=values, name=f"seed {seed}", dots=True))
        if curves:
            plots.append((title, "indexers' divergence on held-out text", line_plot(curves, ylabel="KL, nats")))
    return plots
