"""`report.html` of a run: the cells with their intervals, published numbers beside ours, what was asked of whom.

One page without scripts; everything a model or judge wrote is shown as text.
"""

import html
from collections.abc import Sequence
from pathlib import Path

from godwit.base.files import write_atomic
from godwit.base.page import FIGURES, STYLE, page, section, table
from godwit.evals.harness.outcomes import OVERALL, Figure, Outcome
from godwit.evals.harness.published import Table
from godwit.evals.harness.result import REPORT, Result

SHOWN_SAMPLES = 40
SHOWN_CHARACTERS = 600
CELLS_STYLE = (
    "td{white-space:nowrap}.words td{text-align:left!important;white-space:normal;overflow-wrap:break-word}"
    ".warn{background:#fff3e0;padding:.5rem .8rem}table{margin:.4rem 0}"
)


def write_report(folder: Path, result: Result, samples: Sequence[tuple[str, Outcome, str]], published: Table) -> Path:
    """Write the page; `samples` are (id, outcome, last reply)."""
    parts = [
        f"<h1>{html.escape(result.title)}: {html.escape(result.model)}</h1>",
        _headline(result),
        _warnings(result),
        section("Cells", "value, 95% interval, samples scored (and those without a score)", cells(result.figures)),
        _published(result, published),
        section("How it was asked", "", _settings(result)),
        section("Cost", "tokens of this run's samples; the judge's apart", _costs(result)),
        _samples(samples),
    ]
    path = folder / REPORT
    write_atomic(path, page(f"{result.title}: {result.model}", parts, style=STYLE + FIGURES + CELLS_STYLE))
    return path


def shown(figure: Figure) -> str:
    """A figure as text: 49.7 [45.4, 54.1] n=503 (4 missing)."""
    if figure.value is None:
        return f"unscored (n=0, {figure.num_missing} missing)"
    interval = "" if figure.low is None or figure.high is None else f" [{figure.low:.1f}, {figure.high:.1f}]"
    missing = f" ({figure.num_missing} missing)" if figure.num_missing else ""
    return f"{figure.value:.1f}{interval} n={figure.num_scored}{missing}"


def cells(figures: Sequence[Figure]) -> str:
    """Groups down, metrics across."""
    return table(*cell_rows(figures))


def cell_rows(figures: Sequence[Figure]) -> tuple[list[str], list[list[str]]]:
    """The table's head and rows, for a page or a terminal."""
    metrics = list(dict.fromkeys(figure.metric for figure in figures))
    groups = list(dict.fromkeys(figure.group for figure in figures))
    by_cell = {(figure.group, figure.metric): figure for figure in figures}
    rows = []
    for group in groups:
        found = [by_cell.get((group, metric)) for metric in metrics]
        rows.append([group, *("" if figure is None else shown(figure) for figure in found)])
    return ["", *metrics], rows


def _headline(result: Result) -> str:
    first = next((figure for figure in result.figures if figure.group == OVERALL), None)
    if first is None:
        return ""
    note = f'<p class="note">{html.escape(first.note)}</p>' if first.note else ""
    return f'<p class="big">{html.escape(first.metric)} {html.escape(shown(first))}</p>{note}'


def _warnings(result: Result) -> str:
    found = []
    if result.rehearsal:
        found.append(
            "A rehearsal: the small bundled model answers, and stands in for the judge where there is one; its "
            "replies are short and held to their forms by a grammar. It shows files and page; the figures mean nothing."
        )
    if result.num_failed:
        found.append(
            f"{result.num_failed} of {result.num_rows} samples failed: no reply came. They are missing in means, and "
            "wrong in accuracies. The same command asks them again."
        )
    missing = sum(figure.num_missing for figure in result.figures if figure.group == OVERALL)
    if missing > result.num_failed:
        found.append("Some scores are missing because the judge gave no verdict; they are in no mean.")
    return "".join(f'<p class="warn">{html.escape(text)}</p>' for text in found)


def _published(result: Result, published: Table) -> str:
    overall = {figure.metric: figure for figure in result.figures if figure.group == OVERALL}
    by_name = {figure.group: figure for figure in result.figures} | overall
    ours = [by_name.get(column) for column in published.columns]
    lines = {f"{result.model} (this run)": tuple(None if figure is None else figure.value for figure in ours)}
    lines |= dict(published.rows)
    rows = [[name] for name in lines]
    for column in zip(*lines.values(), strict=True):
        # As many decimals as the paper prints.
        digits = max([0, *(len(f"{value:g}".partition(".")[2]) for value in column[1:] if value is not None)])
        for row, value in zip(rows, column, strict=True):
            row.append("" if value is None else f"{value:.{digits}f}")
    note = f"{published.source}. {published.caution}"
    return section("Published numbers", note, table(["", *published.columns], rows))


def _settings(result: Result) -> str:
    rows = [("data", f"{result.data}, {result.num_rows} rows, hash {result.data_hash}")]
    rows += [(f"model {name}", str(value)) for name, value in result.settings.items() if name != "options"]
    rows += [(name, str(value)) for name, value in result.settings.get("options", {}).items()]
    judge = result.judge or {}
    rows += [(f"judge {name}", str(value)) for name, value in judge.items() if name != "prompts"]
    rows += [(f"prompt {name}", value) for name, value in result.prompts.items()]
    return f'<div class="words">{table([], rows)}</div>'


def _costs(result: Result) -> str:
    rows = [[role, *(str(costs.get(key, "")) for key in _COSTS)] for role, costs in result.costs.items()]
    return table(["", *(name.replace("_", " ") for name in _COSTS)], rows)


_COSTS = ("input_tokens", "output_tokens", "dollars")


def _samples(samples: Sequence[tuple[str, Outcome, str]]) -> str:
    parts = []
    for name, outcome, reply in samples[:SHOWN_SAMPLES]:
        values = ", ".join(f"{metric} {value:.4g}" for metric, value in outcome.values.items())
        missing = "; ".join(f"{metric} unscored: {reason}" for metric, reason in outcome.unscored.items())
        line = "; ".join(filter(None, [values, missing, f"failed: {outcome.failed}" if outcome.failed else ""]))
        text = html.escape(reply if len(reply) <= SHOWN_CHARACTERS else reply[:SHOWN_CHARACTERS] + " [...]")
        summary = html.escape(f"{name}: {line}")
        parts.append(f"<details><summary>{summary}</summary><pre>{text}</pre></details>")
    count = min(len(samples), SHOWN_SAMPLES)
    note = f"the first {count} of {len(samples)}; all are in samples.jsonl, whole prompts in logs/"
    return section("Samples", note, *parts)
