"""S_q: six judged dimensions of a long text as one score (LongBench-Write, LongWriter, arXiv 2408.07055, section 4.1).

    dimension = 25 * (mean of its ratings - 1)       ratings are whole numbers 1 to 5
    S_q       = mean of the six dimensions           0 to 100
    S         = (S_l + S_q) / 2

A reply without all six is no verdict (None) and the sample is unscored, in no mean. The released code drops it too, but
fills dimensions that are missing at the end with 3; that is `compat="code"`.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

from godwit.base.errors import GodwitError
from godwit.rewards import Compat
from godwit.text.forms import Room
from godwit.text.replies import json_object

DIMENSIONS = ("Relevance", "Accuracy", "Coherence", "Clarity", "Breadth and Depth", "Reading Experience")
LOWEST, HIGHEST = 1, 5
_FILL = 3


def parse_quality(reply: str, *, dimensions: Sequence[str] = DIMENSIONS) -> dict[str, int] | None:
    """The ratings in a judge's JSON object (raw or fenced, other keys ignored).

    None unless every dimension is there with a whole number from 1 to 5 (4.0 is one; "4", true and 4.5 are none).
    """
    found = json_object(reply)
    if found is None:
        return None
    ratings: dict[str, int] = {}
    for name in dimensions:
        value = found.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not LOWEST <= value <= HIGHEST:
            return None
        if value != int(value):
            return None
        ratings[name] = int(value)
    return ratings


def quality_form(room: Room) -> str:
    """Of replies that `parse_quality` reads."""
    ratings = ", ".join(f'"{name}": [{LOWEST}-{HIGHEST}]' for name in DIMENSIONS)
    return rf"\{{{ratings}\}}"


def dimension_scores(
    rows: Sequence[Mapping[str, int]], *, dimensions: Sequence[str] = DIMENSIONS, compat: Compat = "paper"
) -> dict[str, float]:
    """Score of each dimension, 0 to 100, over the samples that were judged (at least one)."""
    if not rows:
        raise GodwitError("no judged sample to average; look at why they are unscored")
    missing = [name for name in dimensions if any(name not in row for row in rows)]
    if missing and compat == "paper":
        raise GodwitError(
            f"ratings without {', '.join(missing)}; leave such rows out, or say compat='code' to fill in 3"
        )
    return {name: 25 * (fmean(row.get(name, _FILL) for row in rows) - 1) for name in dimensions}


def quality_score(
    rows: Sequence[Mapping[str, int]], *, dimensions: Sequence[str] = DIMENSIONS, compat: Compat = "paper"
) -> float:
    """S_q over the samples that were judged; of one sample if there is one."""
    return fmean(dimension_scores(rows, dimensions=dimensions, compat=compat).values())


def overall_score(length: float, quality: float) -> float:
    """S of S_l and S_q."""
    return (length + quality) / 2
