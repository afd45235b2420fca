"""Comparisons of two texts by a judge, in both orders: votes, win rates, Bradley-Terry strengths with intervals.

    a prompt's outcome   both orders name the same text: it wins; one says tie, the other names a text: half a win more
                         for it (0.75); they contradict each other (the judge follows the place) or both say tie: 0.5
    win rate             mean outcome, tie = 0.5 (as SuperWriter, arXiv 2506.04180, section 4.2)
    Bradley-Terry        P(i beats j) = 1 / (1 + exp(s_j - s_i - c * (x_i - x_j))), fitted by maximum likelihood
    Elo                  400 / ln 10 * s, moved so that the anchors' mean is 1000

c is the weight of a covariate x of the texts (log length, say): with it, s is the strength at equal length. The fit has
one imaginary tie between each two models that met (`prior`): else a model that wins everything has no finite strength;
and c is drawn to 0 by a normal prior of variance 10: else one whose longer text always wins has no finite weight.
Intervals are percentiles of a bootstrap over prompts, not over votes, which are not independent.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np

from godwit.base.errors import GodwitError
from godwit.base.seeds import derive_seed
from godwit.evals.metrics.intervals import LEVEL, Interval

Vote = Literal["first", "second", "tie"]
ANCHOR_ELO = 1000.0
_ELO_PER_STRENGTH = 400 / math.log(10)
COVARIATE_VARIANCE = 10.0
_STEPS = 50
_FURTHEST = 15.0
"""Strengths beyond this (odds of 3 million to 1) are on their way to infinity."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """Two models' texts for one prompt, judged in both orders.

    Attributes:
        forward: the vote with `left` shown first; None is unscored.
        backward: the vote with `right` shown first.
        covariate: x of the left text minus x of the right one.
    """

    prompt: Hashable
    left: str
    right: str
    forward: Vote | None
    backward: Vote | None
    covariate: float = 0.0

    @property
    def outcome(self) -> float | None:
        """1 if left wins, 0 if right does, 0.5 for a tie or a contradiction; None if a vote is missing."""
        if self.forward is None or self.backward is None:
            return None
        return (_FIRST[self.forward] + 1 - _FIRST[self.backward]) / 2

    @property
    def flipped(self) -> bool:
        """Both orders name the text in the same place."""
        return self.forward == self.backward and self.forward in ("first", "second")


_FIRST: dict[Vote, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}


@dataclass(frozen=True)
class WinRate:
    """How often a model beats another (ties half), and what the judge's votes were like.

    Attributes:
        first_votes: share of votes, ties apart, for the text shown first: 0.5 for a judge without a leaning.
    """

    rate: float | None
    num_scored: int
    num_unscored: int
    num_flipped: int
    first_votes: float | None
    votes_forward: Mapping[str, int]
    votes_backward: Mapping[str, int]


@dataclass(frozen=True)
class Strength:
    """A model's Elo and its interval."""

    elo: float
    interval: Interval | None


def win_rate(matches: Sequence[Match], model: str) -> WinRate:
    """Of `model` over everything it met in `matches`."""
    own = [match for match in matches if model in (match.left, match.right)]
    outcomes = [match.outcome if match.left == model else _turned(match.outcome) for match in own]
    known = [outcome for outcome in outcomes if outcome is not None]
    named = [vote for match in own for vote in (match.forward, match.backward) if vote in ("first", "second")]
    return WinRate(
        rate=fmean(known) if known else None,
        num_scored=len(known),
        num_unscored=len(own) - len(known),
        num_flipped=sum(match.flipped for match in own),
        first_votes=named.count("first") / len(named) if named else None,
        votes_forward=_counts([match.forward for match in own]),
        votes_backward=_counts([match.backward for match in own]),
    )


def bradley_terry(
    matches: Sequence[Match], *, prior: float = 1.0, covariate: bool = False
) -> tuple[dict[str, float], float]:
    """Strengths (mean 0) and the covariate's weight (0 without it).

    Args:
        prior: weight of one imaginary tie between each two models that met; 0 is plain maximum likelihood.

    Raises:
        GodwitError: no scored match, or no finite fit (with prior 0, a model that only wins or loses).
    """
    scored = [match for match in matches if match.outcome is not None]
    if not scored:
        raise GodwitError("no scored comparison to fit; look at why they are unscored")
    names = sorted({name for match in scored for name in (match.left, match.right)})
    return _fit(scored, names, prior, covariate)


def strengths(
    matches: Sequence[Match],
    *,
    anchors: Sequence[str],
    seed: int = 0,
    num_draws: int = 500,
    level: float = LEVEL,
    prior: float = 1.0,
    covariate: bool = False,
) -> dict[str, Strength]:
    """Elo of each model with a bootstrap interval over prompts.

    Args:
        anchors: models whose mean is set to 1000, in every draw too; fixed ones make runs compare.
        seed: of the draws.
    """
    fitted, _weight = bradley_terry(matches, prior=prior, covariate=covariate)
    missing = [name for name in anchors if name not in fitted]
    if missing or not anchors:
        raise GodwitError(f"anchors {missing or 'none'}: name some of the compared models {sorted(fitted)}")
    by_prompt: dict[Hashable, list[Match]] = {}
    for match in matches:
        by_prompt.setdefault(match.prompt, []).append(match)
    groups = list(by_prompt.values())
    rng = np.random.default_rng(derive_seed(seed, "bradley-terry"))
    draws: dict[str, list[float]] = {name: [] for name in fitted}
    for _ in range(num_draws if len(groups) > 1 else 0):
        drawn = [match for place in rng.integers(len(groups), size=len(groups)) for match in groups[place]]
        if any(match.outcome is not None for match in drawn):
            for name, elo in _elo(bradley_terry(drawn, prior=prior, covariate=covariate)[0], anchors).items():
                draws[name].append(elo)
    tail = (1 - level) / 2
    return {name: Strength(elo, _percentiles(draws[name], tail, level)) for name, elo in _elo(fitted, anchors).items()}


def _fit(
    matches: Sequence[Match], names: Sequence[str], prior: float, covariate: bool
) -> tuple[dict[str, float], float]:
    """Newton's method on the log likelihood; the direction in which all strengths rise together is projected out."""
    place = {name: number for number, name in enumerate(names)}
    rows = [(place[m.left], place[m.right], m.covariate, float(m.outcome or 0.0), 1.0) for m in matches]
    met = {tuple(sorted((row[0], row[1]))) for row in rows}
    rows += [(i, j, 0.0, 0.5, prior) for i, j in sorted(met) if prior > 0]
    width = len(names) + covariate
    design = np.zeros((len(rows), width))
    for number, (left, right, x, _outcome, _weight) in enumerate(rows):
        design[number, left] += 1
        design[number, right] -= 1
        if covariate:
            design[number, -1] = x
    outcomes, weights = np.array([row[3] for row in rows]), np.array([row[4] for row in rows])
    values = np.zeros(width)
    pull = np.zeros(width)
    if covariate:
        pull[-1] = prior / COVARIATE_VARIANCE
    for _ in range(_STEPS):
        expected = 1 / (1 + np.exp(-np.clip(design @ values, -40, 40)))
        slope = design.T @ (weights * (outcomes - expected))
        curvature = design.T @ (design * (weights * expected * (1 - expected))[:, None])
        slope -= pull * values
        curvature += np.diag(pull)
        step = np.linalg.lstsq(curvature, slope, rcond=1e-10)[0]
        step *= min(1.0, 2.0 / max(1e-12, float(np.abs(step).max())))  # long steps overshoot where the curve is flat
        values += step
        if np.abs(step).max() < 1e-10:
            break
    if np.abs(values).max() > _FURTHEST or not np.isfinite(values).all():
        raise GodwitError("no finite Bradley-Terry fit: a model only wins or only loses; give prior=1")
    model = values[: len(names)] - values[: len(names)].mean()
    return dict(zip(names, map(float, model))), float(values[-1]) if covariate else 0.0


def _elo(fitted: Mapping[str, float], anchors: Sequence[str]) -> dict[str, float]:
    known = [fitted[name] for name in anchors if name in fitted]
    middle = fmean(known) if known else 0.0
    return {name: ANCHOR_ELO + _ELO_PER_STRENGTH * (value - middle) for name, value in fitted.items()}


def _percentiles(draws: Sequence[float], tail: float, level: float) -> Interval | None:
    if not draws:
        return None
    low, high = np.quantile(np.array(draws), [tail, 1 - tail])
    return Interval(float(low), float(high), level)


def _turned(outcome: float | None) -> float | None:
    return None if outcome is None else 1 - outcome


def _counts(votes: Sequence[Vote | None]) -> dict[str, int]:
    return {name: votes.count(vote) for name, vote in _VOTES.items()}


_VOTES: dict[str, Vote | None] = {"first": "first", "second": "second", "tie": "tie", "unscored": None}
