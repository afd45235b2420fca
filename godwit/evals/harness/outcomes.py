"""What became of one sample, and the cells of a table made of many.

A sample is done (its reply came; each metric has a value or is unscored by itself) or failed (no reply came). A metric
that could not be judged is missing in `values`: it is in no mean, and every figure says how many are missing.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from godwit.base.config import from_json
from godwit.evals.metrics.intervals import Interval, Mean, mean_interval

OVERALL = "overall"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One sample's scores.

    Attributes:
        values: metric -> score; a metric that is not here is unscored.
        groups: the cells it belongs to, as "kind: name".
        unscored: metric -> why it has no value.
        details: what a reader of the log wants beside them (JSON values).
        failed: why there is no reply; "" if there is one.
    """

    values: dict[str, float] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    unscored: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    failed: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"groups": list(self.groups)}

    @classmethod
    def of_json(cls, value: Any) -> "Outcome":
        """The inverse of `to_json`."""
        return from_json(cls, value, "outcome")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One cell: a metric over a group of samples.

    Attributes:
        value: None if nothing in the group was scored.
        num_missing: samples of the group without this metric, failed ones included.
        note: what the figure is, where it is not a mean over samples.
    """

    group: str
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    num_scored: int = 0
    num_missing: int = 0
    note: str = ""

    @classmethod
    def of_mean(cls, group: str, metric: str, mean: Mean, num_missing: int) -> "Figure":
        """A mean over samples with its interval."""
        return cls.of(group, metric, mean.mean, mean.interval, mean.num_samples, num_missing)

    @classmethod
    def of(
        cls,
        group: str,
        metric: str,
        value: float | None,
        interval: Interval | None,
        num_scored: int,
        num_missing: int,
        note: str = "",
    ) -> "Figure":
        """A figure with an interval from elsewhere."""
        return cls(
            group=group,
            metric=metric,
            value=value,
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            num_scored=num_scored,
            num_missing=num_missing,
            note=note,
        )


def mean_figures(outcomes: Sequence[Outcome], metrics: Sequence[str]) -> list[Figure]:
    """Mean and interval of each metric, overall first, then of each group in the order of its first sample."""
    groups = dict.fromkeys(group for outcome in outcomes for group in outcome.groups)
    figures = []
    for group in (OVERALL, *groups):
        inside = [outcome for outcome in outcomes if group == OVERALL or group in outcome.groups]
        figures += [_mean_figure(group, metric, inside) for metric in metrics]
    return figures


def _mean_figure(group: str, metric: str, outcomes: Sequence[Outcome]) -> Figure:
    values = [outcome.values[metric] for outcome in outcomes if metric in outcome.values]
    missing = len(outcomes) - len(values)
    if not values:
        return Figure(group=group, metric=metric, value=None, num_missing=missing)
    return Figure.of_mean(group, metric, mean_interval(values), missing)
