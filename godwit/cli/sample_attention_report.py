"""The result of `godwit sample_attention` as a table on the terminal, a page with plots, and JSON."""

import dataclasses
import html
from pathlib import Path
from typing import NamedTuple

from godwit.base import page
from godwit.base.aligned import aligned
from godwit.base.files import write_atomic, write_json
from godwit.base.machine import provenance
from godwit.models.sample_attention.measure import Figures
from godwit.models.sample_attention.tune import Tuned
from godwit.ops.sample_attention import Sampling
from godwit.train.plots import Curve, line_plot

COLUMNS = ("method", "alpha", "rows", "window", "density", "kept", "1 %", "least", "error", "loss")
NOTE = (
    "density: computed scores over those of dense attention, sampling not counted. kept, 1 %, least: part of a row's "
    "attention that is kept, mean, 1 % quantile and least over all rows, heads and layers. error: relative, of a "
    "layer's attention output. loss: change in nats per token with the method in every layer. Sink + window, window "
    "and oracle compute as many scores as SampleAttention of the same alpha; the oracle sees the whole attention it is "
    "to save. Window counted: alpha is asked of window and columns together, not of the columns alone."
)


class Study(NamedTuple):
    """What was measured: `figures` by name of the method and the settings whose cost it has."""

    model: str
    seq_len: int
    num_rows: int
    dense_loss: float
    figures: dict[tuple[str, Sampling], Figures]
    tuned: Tuned | None
    max_loss_change: float


def table(study: Study) -> str:
    """Lines for a terminal."""
    return "\n".join([_headline(study), "", *aligned([COLUMNS, *_cells(study)]), "", _verdict(study)])


def write(study: Study, folder: Path) -> Path:
    """Write `results.json` and `report.html`; returns the latter's path."""
    write_json(folder / "results.json", _json(study))
    plots = (
        ("Loss", "nats per token added, by what is computed", _plot(study, "loss_change", "loss change")),
        ("Kept attention", "mean over rows, heads and layers", _plot(study, "kept_mean", "kept, mean")),
        ("The worst hundredth", "1 % quantile of kept attention", _plot(study, "kept_low", "kept, 1 % quantile")),
        ("Output error", "relative, mean over layers", _plot(study, "output_error", "error")),
    )
    parts = [
        f"<h1>SampleAttention on {html.escape(study.model)}</h1>",
        f'<p class="big">{html.escape(_verdict(study))}</p><p>{html.escape(_headline(study))}</p>',
        page.table(COLUMNS, _cells(study)),
        f'<p class="note">{html.escape(NOTE)}</p>',
        *(f'<h2>{title}</h2><p class="note">{note}</p>{svg}' for title, note, svg in plots),
        _layers(study),
        _trials(study),
    ]
    write_atomic(folder / "report.html", page.page("SampleAttention", parts, style=page.STYLE + page.FIGURES))
    return folder / "report.html"


def _headline(study: Study) -> str:
    rows = f"{study.num_rows} rows of {study.seq_len:,} tokens"
    return f"SampleAttention on {study.model}: {rows}, dense loss {study.dense_loss:.4f} nats per token"


def _verdict(study: Study) -> str:
    limit = f"{study.max_loss_change:.1%} of the loss"
    if study.tuned is None:
        return "Not tuned (--tune-rows 0)."
    if study.tuned.choice is None:
        return f"No settings tried add at most {limit} on the tuning rows: dense attention stays best for this model."
    sampling, cost = study.tuned.choice.sampling, study.tuned.choice.cost
    change = study.figures[("tuned", sampling)].loss_change
    rule = " (window counted)" if sampling.outside_window else ""
    return (
        f"Cheapest within {limit}: alpha {sampling.alpha:g}{rule}, row_ratio {sampling.row_ratio:g}, window_ratio "
        f"{sampling.window_ratio:g}: {cost:.1%} of dense attention with sampling; on other rows the loss changes by "
        f"{change:+.4f} ({change / study.dense_loss:+.2%})."
    )


def _cells(study: Study) -> list[tuple[str, ...]]:
    return [
        (
            name,
            f"{sampling.alpha:g}",
            f"{sampling.row_ratio:g}",
            f"{sampling.window_ratio:g}",
            f"{figures.density:.3f}",
            f"{figures.kept_mean:.4f}",
            f"{figures.kept_low:.4f}",
            f"{figures.kept_min:.4f}",
            f"{figures.output_error:.4f}",
            f"{figures.loss_change:+.4f}",
        )
        for (name, sampling), figures in study.figures.items()
    ]


def _plot(study: Study, field: str, label: str) -> str:
    names = dict.fromkeys(name for name, _ in study.figures)
    curves = []
    for name in names:
        own = sorted(
            (each.density, getattr(each, field)) for (other, _), each in study.figures.items() if other == name
        )
        curves.append(Curve(steps=[x for x, _ in own], values=[y for _, y in own], name=name, dots=True))
    return line_plot(curves, ylabel=label, xlabel="density")


def _layers(study: Study) -> str:
    head = "<tr><th>layer</th><th>density</th><th>kept</th><th>error</th></tr>"
    parts = ["<h2>By layer</h2>"]
    for (name, sampling), figures in study.figures.items():
        if name in ("SampleAttention", "tuned"):
            rows = "".join(
                f"<tr><td>{number}</td><td>{each.density:.3f}</td><td>{each.kept_mean:.4f}</td>"
                f"<td>{each.output_error:.4f}</td></tr>"
                for number, each in enumerate(figures.layers)
            )
            parts.append(f'<p class="note">{name}, alpha {sampling.alpha:g}</p><table>{head}{rows}</table>')
    return "".join(parts)


def _trials(study: Study) -> str:
    if study.tuned is None:
        return ""
    head = "".join(
        f"<th>{name}</th>" for name in ("alpha", "window counted", "rows", "window", "cost", "kept", "least", "loss")
    )
    rows = "".join(
        f"<tr><td>{trial.sampling.alpha:g}</td><td>{'yes' if trial.sampling.outside_window else 'no'}</td>"
        f"<td>{trial.sampling.row_ratio:g}</td>"
        f"<td>{trial.sampling.window_ratio:g}</td><td>{trial.cost:.3f}</td><td>{trial.figures.kept_mean:.4f}</td>"
        f"<td>{trial.figures.kept_min:.4f}</td><td>{trial.figures.loss_change:+.4f}</td></tr>"
        for trial in study.tuned.trials
    )
    return f"<h2>Tuning</h2><p class='note'>cheapest first, on the tuning rows</p><table><tr>{head}</tr>{rows}</table>"


def _json(study: Study) -> dict[str, object]:
    methods = [
        {"method": name, "sampling": dataclasses.asdict(sampling), **_plain(figures)}
        for (name, sampling), figures in study.figures.items()
    ]
    trials = [] if study.tuned is None else study.tuned.trials
    return {
        "model": study.model,
        "seq_len": study.seq_len,
        "rows": study.num_rows,
        "dense_loss": study.dense_loss,
        "methods": methods,
        "tuning": [
            {"sampling": dataclasses.asdict(trial.sampling), "cost": trial.cost, **_plain(trial.figures)}
            for trial in trials
        ],
        "provenance": provenance(),
    }


def _plain(figures: Figures) -> dict[str, object]:
    return {**dataclasses.asdict(figures), "layers": [layer._asdict() for layer in figures.layers]}
