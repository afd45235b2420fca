"""WritingBench: scores of five criteria a query as overall, domain and requirement figures (arXiv 2503.05244; code).

    overall        mean over all criterion scores, pooled
    domain         mean over its queries of each query's mean
    requirement R  mean over the queries of its subset of each query's mean
    requirement C  mean over the subset's own criteria only, pooled

A score is a whole number 1 to 10; the leaderboard prints ten times the mean. A criterion whose judging failed is
unscored: in no mean, and counted. Judges have changed over time (a tuned critic, then three Claude models): figures of
different judges do not compare.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from godwit.text.forms import Room, whole_number
from godwit.text.replies import json_object

LOWEST, HIGHEST = 1, 10


@dataclass(frozen=True, kw_only=True)
class Query:
    """One query's judged criteria.

    Attributes:
        scores: criterion -> score; None is unscored.
    """

    index: str
    domain: str
    scores: Mapping[str, int | None]


@dataclass(frozen=True)
class Aggregate:
    """A figure, from how many scores, and how many were unscored; the mean is None if none was scored."""

    mean: float | None
    num_scores: int
    num_unscored: int


def parse_score(reply: str) -> int | None:
    """The `score` of a judge's JSON object: a whole number 1 to 10; None for anything else. Never evaluated."""
    found = json_object(reply)
    value = None if found is None else found.get("score")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not LOWEST <= value <= HIGHEST:
        return None
    return int(value) if value == int(value) else None


def score_form(room: Room) -> str:
    """Of replies that `parse_score` reads."""
    return rf'\{{"reason": {room.string()}, "score": {whole_number(LOWEST, HIGHEST)}\}}'


def overall(queries: Sequence[Query]) -> Aggregate:
    """All criterion scores pooled."""
    return _pooled([score for query in queries for score in query.scores.values()])


def domains(queries: Sequence[Query]) -> dict[str, Aggregate]:
    """Each domain's mean of query means."""
    names = sorted({query.domain for query in queries})
    return {name: query_mean([query for query in queries if query.domain == name]) for name in names}


def query_mean(queries: Sequence[Query]) -> Aggregate:
    """Mean of the queries' means (a domain, or a requirement's R); a query without any score is in none."""
    pools = [_pooled(list(query.scores.values())) for query in queries]
    means = [pool.mean for pool in pools if pool.mean is not None]
    scores, unscored = sum(pool.num_scores for pool in pools), sum(pool.num_unscored for pool in pools)
    return Aggregate(fmean(means) if means else None, scores, unscored)


def criterion_mean(queries: Sequence[Query], criteria: Mapping[str, Collection[str]]) -> Aggregate:
    """A requirement's C: the scores of its own criteria, pooled.

    Args:
        criteria: query index -> which of its criteria belong to the requirement.
    """
    kept = [score for query in queries for name, score in query.scores.items() if name in criteria.get(query.index, ())]
    return _pooled(kept)


def _pooled(scores: Sequence[int | None]) -> Aggregate:
    known = [score for score in scores if score is not None]
    return Aggregate(fmean(known) if known else None, len(known), len(scores) - len(known))
