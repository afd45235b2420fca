"""Two runs of one benchmark against each other, sample by sample.

Paired: only samples that both have a score for count, so what is common to both (hard questions) falls out. Refused
where the difference would not be the models': other data, other prompts, another judge.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from godwit.base.config import differences
from godwit.base.errors import GodwitError
from godwit.base.files import write_atomic
from godwit.base.page import FIGURES, STYLE, page, section, table
from godwit.evals.harness.result import Result, read_outcomes, read_result
from godwit.evals.metrics.intervals import Difference, paired_difference


@dataclass(frozen=True)
class Compared:
    """One metric: the paired difference, and how many samples could not be paired."""

    metric: str
    difference: Difference
    num_unpaired: int


def compare(first: Path, second: Path) -> tuple[Result, Result, list[Compared]]:
    """Every metric that both runs have, second minus first."""
    a, b = read_result(first), read_result(second)
    _check(a, b)
    left, right = read_outcomes(first), read_outcomes(second)
    metrics = dict.fromkeys(metric for outcome in left.values() for metric in outcome.values)
    found = []
    for metric in metrics:
        both = [name for name in left if metric in left[name].values and metric in _values(right, name)]
        if both:
            pairs = paired_difference(
                [left[name].values[metric] for name in both], [right[name].values[metric] for name in both]
            )
            found.append(Compared(metric, pairs, len(left.keys() | right.keys()) - len(both)))
    if not found:
        raise GodwitError(f"{first} and {second} have no scored sample in common")
    return a, b, found


def compared_rows(found: Sequence[Compared]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table, for a page or a terminal."""
    head = ["", "difference", "95% interval", "better", "worse", "equal", "unpaired", "sign test p"]
    rows = []
    for item in found:
        pairs, interval = item.difference, item.difference.difference.interval
        rows.append(
            [
                item.metric,
                f"{pairs.difference.mean:+.3g}",
                "" if interval is None else f"{interval.low:+.3g} to {interval.high:+.3g}",
                *(str(count) for count in (pairs.num_better, pairs.num_worse, pairs.num_equal, item.num_unpaired)),
                f"{pairs.sign_p:.3g}",
            ]
        )
    return head, rows


def write_comparison(path: Path, a: Result, b: Result, found: Sequence[Compared]) -> None:
    """The page of a comparison."""
    title = f"{a.title}: {b.model} against {a.model}"
    note = "second run minus first, over the samples that both have a score for; paired t interval, exact sign test"
    parts = [f"<h1>{html.escape(title)}</h1>", section("Paired differences", note, table(*compared_rows(found)))]
    write_atomic(path, page(title, parts, style=STYLE + FIGURES))


def _values(outcomes: dict, name: str) -> dict[str, float]:
    return outcomes[name].values if name in outcomes else {}


def _check(a: Result, b: Result) -> None:
    if a.benchmark != b.benchmark:
        raise GodwitError(f"a run of {a.benchmark} and one of {b.benchmark} do not compare; give two of one benchmark")
    if a.data_hash != b.data_hash:
        raise GodwitError(f"the runs are of different data ({a.data} and {b.data}); run both on the same file")
    changed = differences({"judge": a.judge, "prompts": a.prompts}, {"judge": b.judge, "prompts": b.prompts})
    if changed:
        raise GodwitError(f"the runs were not judged alike ({'; '.join(changed[:4])}); judge both the same way")
