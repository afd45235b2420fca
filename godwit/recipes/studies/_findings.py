"""What a study found: a table over seeds, claims that hold or do not, and the files that say so.

    table.md       the table and the claims, to be pasted somewhere
    results.json   every value of every seed
    report.html    both, with plots

A figure is a mean over seeds with its standard error, s / sqrt(n), s with n - 1; with one seed there is none. "More
than noise" means more than `NOISE` standard errors, of differences taken seed by seed: seeds differ in their texts
more than methods differ. Three seeds are few: read a claim that holds as "not contradicted here".
"""

import html
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

from godwit.base import page
from godwit.base.files import write_atomic, write_json
from godwit.base.machine import provenance

NOISE = 2.0


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of the table: column -> one value per seed; a column that makes no sense for it is left out."""

    name: str
    values: dict[str, tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement, the figures it is about (one per seed, in `unit`), and whether it holds."""

    text: str
    figures: tuple[float, ...]
    unit: str
    holds: bool

    @property
    def verdict(self) -> str:
        """ "holds" or "does not hold"."""
        return "holds" if self.holds else "does not hold"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All of a study. `setting` is a sentence on what was measured how; plots are title, note, SVG."""

    title: str
    setting: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    claims: tuple[Claim, ...]
    plots: tuple[tuple[str, str, str], ...] = ()


def at_most(text: str, figures: Sequence[float], limit: float, *, unit: str) -> Claim:
    """Holds if the mean is `limit` or less."""
    return Claim(text=text, figures=tuple(figures), unit=unit, holds=fmean(figures) <= limit)


def more_than_noise(text: str, figures: Sequence[float], *, unit: str) -> Claim:
    """Holds if the mean is above 0 by more than `NOISE` standard errors."""
    return Claim(text=text, figures=tuple(figures), unit=unit, holds=_clear(figures))


def no_more_than_noise(text: str, figures: Sequence[float], *, unit: str) -> Claim:
    """Holds unless the mean is above 0 by more than `NOISE` standard errors."""
    return Claim(text=text, figures=tuple(figures), unit=unit, holds=not _clear(figures))


def standard_error(figures: Sequence[float]) -> float:
    """Of their mean; NaN for one figure alone."""
    return stdev(figures) / math.sqrt(len(figures)) if len(figures) > 1 else math.nan


def shown(figures: Sequence[float], *, sign: bool = False) -> str:
    """Mean and standard error."""
    spread = standard_error(figures)
    mean = f"{fmean(figures):+.4f}" if sign else f"{fmean(figures):.4f}"
    return mean if math.isnan(spread) else f"{mean} ± {spread:.4f}"


def table(found: Findings) -> str:
    """The findings as Markdown, which is also what the terminal shows."""
    head = ["", *found.columns]
    rows = [[line.name, *_cells(found, line)] for line in found.lines]
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    marks = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_row(row, widths) for row in [head, marks, *rows]]
    claims = [
        f"* **{claim.verdict}**: {claim.text} ({shown(claim.figures, sign=True)} {claim.unit})"
        for claim in found.claims
    ]
    return "\n".join([f"# {found.title}", "", found.setting, "", *lines, "", *claims, ""])


def write(found: Findings, folder: Path) -> Path:
    """Write the three files; returns the report's path."""
    write_atomic(folder / "table.md", table(found))
    claims = [asdict(claim) | {"verdict": claim.verdict} for claim in found.claims]
    lines = [asdict(line) for line in found.lines]
    result = {"title": found.title, "setting": found.setting, "lines": lines, "claims": claims}
    write_json(folder / "results.json", result | {"provenance": provenance()})
    path = folder / "report.html"
    write_atomic(path, _page(found))
    return path


def _clear(figures: Sequence[float]) -> bool:
    spread = standard_error(figures)
    return fmean(figures) > (0.0 if math.isnan(spread) else NOISE * spread)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.ljust(w) if place == 0 else cell.rjust(w) for place, (cell, w) in enumerate(zip(cells, widths))
    )
    return "| " + " | ".join([first, *others]) + " |"


def _cells(found: Findings, line: Line) -> list[str]:
    return [shown(line.values[column]) if column in line.values else "-" for column in found.columns]


def _page(found: Findings) -> str:
    rows = [[line.name, *_cells(found, line)] for line in found.lines]
    claims = "".join(
        f"<tr><td><b>{claim.verdict}</b></td><td>{html.escape(claim.text)}</td>"
        f"<td>{html.escape(shown(claim.figures, sign=True))} {html.escape(claim.unit)}</td></tr>"
        for claim in found.claims
    )
    note = f'Means over seeds with standard errors; "more than noise" is more than {NOISE:g} of them.'
    parts = [
        f"<h1>{html.escape(found.title)}</h1><p>{html.escape(found.setting)}</p>",
        page.table(("", *found.columns), rows),
        page.section("Claims", "", f'<table>{claims}</table><p class="note">{note}</p>'),
        *(page.section(title, about, svg) for title, about, svg in found.plots),
    ]
    style = page.STYLE + "th{text-align:left;padding:.1rem 1rem .1rem 0;font-weight:600}"
    return page.page(found.title, parts, style=style)
