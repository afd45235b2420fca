"""Correctness of answers by a judge's rating: scales, best reference, ratio to an answer without citations.

    question answering   rated 1 to 3    (r - 1) / 2
    summary              rated 1 to 5    (r - 1) / 4
    LongBench-Chat       rated 1 to 10   r / 10

With several reference answers the best score counts. The correctness ratio CR of a data set is C / C_LQA, C_LQA the
same model's correctness when it is not asked for citations; a table's average is the mean of the data sets' ratios, not
the ratio of the means. Source: LongBench-Cite (arXiv 2409.02897, section 2) and its code, which writes 0.5 for what it
could not parse; here that is None.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal

from godwit.base.errors import GodwitError
from godwit.rewards.labels import rating, rating_form
from godwit.text.forms import Form

Scale = Literal["qa", "summary", "chat"]
_RANGES: dict[Scale, tuple[int, int]] = {"qa": (1, 3), "summary": (1, 5), "chat": (1, 10)}


def correctness_of(reply: str, scale: Scale) -> float | None:
    """Score from 0 to 1 from the last rating of a reply (they rate after the cue); None if it rates nothing.

    A decimal loses its fraction, as in the released code ("[[2.5]]" is 2).
    """
    lowest, highest = _RANGES[scale]
    found = rating(reply, "last", lowest=lowest, highest=highest)
    if found is None:
        return None
    return int(found) / highest if scale == "chat" else (int(found) - lowest) / (highest - lowest)


def correctness_form(scale: Scale) -> Form:
    """Of replies that `correctness_of` reads."""
    return rating_form(*_RANGES[scale])


def best_of(scores: Sequence[float | None]) -> float | None:
    """The best score over the reference answers; None unless all were judged (one that failed could have been it)."""
    known = [score for score in scores if score is not None]
    return max(known) if known and (len(known) == len(scores) or max(known) == 1.0) else None


def correctness_ratios(cited: Mapping[str, float], plain: Mapping[str, float]) -> dict[str, float | None]:
    """CR of each data set; None where the answer without citations scored 0.

    Args:
        cited: correctness of each data set, answers with citations.
        plain: the same without; the same data sets.
    """
    if cited.keys() != plain.keys():
        raise GodwitError(f"correctness ratio of {sorted(cited)} over {sorted(plain)}: give the same data sets twice")
    return {name: cited[name] / plain[name] if plain[name] else None for name in cited}


def mean_ratio(ratios: Mapping[str, float | None]) -> float | None:
    """The average a table prints: mean of the data sets' ratios; None if one of them is."""
    known = [ratio for ratio in ratios.values() if ratio is not None]
    return fmean(known) if known and len(known) == len(ratios) else None
