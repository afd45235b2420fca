"""Confidence intervals and paired comparisons; 95% where nothing else is said.

proportion     Wilson's score interval: stays inside [0, 1] and is right at 0 and at n hits
mean           Student's t over samples
difference     of two runs on the same samples: t interval over the paired differences, and for hits McNemar's
               exact test, which looks only at the samples on which they differ
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

from scipy.special import stdtrit

from godwit.base.errors import GodwitError

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, at `level`."""

    low: float
    high: float
    level: float = LEVEL

    def times(self, factor: float) -> "Interval":
        """The same in other units."""
        return Interval(self.low * factor, self.high * factor, self.level)


@dataclass(frozen=True)
class Mean:
    """A mean, its standard error and interval (None with fewer than two samples), over how many."""

    mean: float
    standard_error: float | None
    interval: Interval | None
    num_samples: int


@dataclass(frozen=True)
class Difference:
    """Second run minus first on the samples that both have a score for."""

    difference: Mean
    num_better: int
    num_worse: int
    num_equal: int
    sign_p: float
    """Two-sided exact p of the sign test: better and worse equally likely (McNemar's, if scores are hits)."""


def binomial_interval(hits: int, trials: int, *, level: float = LEVEL) -> Interval:
    """Wilson's interval of a proportion.

    (p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)
    """
    if not 0 <= hits <= trials or trials == 0:
        raise GodwitError(f"{hits} hits of {trials}: a proportion needs trials, and hits among them")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = hits / trials
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    low = 0.0 if hits == 0 else (middle - half) / scale
    high = 1.0 if hits == trials else (middle + half) / scale
    return Interval(low, high, level)


def mean_interval(values: Sequence[float], *, level: float = LEVEL) -> Mean:
    """Mean with Student's t interval; the values are taken for independent."""
    if not values:
        raise GodwitError("no scored sample to average; look at why they are unscored")
    mean, count = fmean(values), len(values)
    if count < 2:
        return Mean(mean, None, None, count)
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1) / count)
    half = float(stdtrit(count - 1, 0.5 + level / 2)) * error
    return Mean(mean, error, Interval(mean - half, mean + half, level), count)


def paired_difference(first: Sequence[float], second: Sequence[float], *, level: float = LEVEL) -> Difference:
    """Second minus first; the two are of the same samples in the same order."""
    if len(first) != len(second):
        raise GodwitError(f"{len(first)} scores against {len(second)}: pair the samples first")
    differences = [b - a for a, b in zip(first, second)]
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return Difference(
        difference=mean_interval(differences, level=level),
        num_better=better,
        num_worse=worse,
        num_equal=len(differences) - better - worse,
        sign_p=sign_test(better, worse),
    )


def sign_test(better: int, worse: int) -> float:
    """Two-sided exact p that one side wins so many of `better + worse` coin throws; 1 if there are none."""
    trials, fewer = better + worse, min(better, worse)
    tail = sum(math.comb(trials, wins) for wins in range(fewer + 1))
    return min(1.0, 2 * tail / 2**trials)
