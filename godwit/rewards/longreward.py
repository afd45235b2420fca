"""LongReward: four judged dimensions of a long-context answer, each 0 to 10, and their mean (arXiv 2410.21252).

    helpfulness, logicality, completeness     the judge's rating, the LAST number in double brackets
    faithfulness                              10 * mean over the answer's facts of full 1, partial 0.5, no support 0
    reward                                    mean of the four

An answer in which no facts were found has no faithfulness (None), as in the code; a reward needs all four. The released
files store the sum as `total`, which orders answers alike; `compat="code"` gives it.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

from godwit.rewards import Compat
from godwit.rewards.citation_scores import SUPPORT
from godwit.rewards.labels import behind_analysis, label_form, rating, rating_form, value_of
from godwit.text.forms import Room
from godwit.text.replies import elements

DIMENSIONS = ("helpfulness", "logicality", "faithfulness", "completeness")
HIGHEST = 10.0
MIN_SCORED = 5
"""The released code makes a pair only of prompts with so many scored answers (of 10)."""


def dimension_rating(reply: str) -> float | None:
    """The rating 0 to 10 that ends an analysis: the last one; None if it rates nothing."""
    return rating(reply, "last", lowest=0.0, highest=HIGHEST)


def facts_of(reply: str) -> list[str]:
    """The factual statements a judge lists in `<statement>` elements, trimmed, blank ones dropped."""
    return [fact for fact in (inner.strip() for inner in elements(reply, "statement")) if fact]


def facts_form(room: Room) -> str:
    """Of replies in which `facts_of` finds some."""
    return room.several(f"<statement>{room.inside()}</statement>", between=r"\n*")


def fact_support(reply: str, *, compat: Compat = "paper") -> float | None:
    """1, 0.5 or 0 from the LAST label of the judge's reply (LongCite's counts the first); None if it is no verdict."""
    return value_of(reply, SUPPORT, "last", parts=(("fully", 1.0), ("partially", 0.5), ("", 0.0)), compat=compat)


dimension_form = behind_analysis(rating_form(0, int(HIGHEST)))
"""Of replies that `dimension_rating` reads."""
fact_support_form = behind_analysis(label_form(map(str.capitalize, SUPPORT)))
"""Of replies that `fact_support` reads."""


def faithfulness(supports: Sequence[float]) -> float | None:
    """10 * mean of the facts' support; None if there are no facts."""
    return HIGHEST * fmean(supports) if supports else None


def reward(scores: Mapping[str, float | None], *, compat: Compat = "paper") -> float | None:
    """Mean of the four dimensions ("code": their sum); None if one is missing or unscored."""
    values = [scores.get(name) for name in DIMENSIONS]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return sum(known) if compat == "code" else fmean(known)


def preference_pair(
    rewards: Sequence[float | None], *, min_scored: int = MIN_SCORED, compat: Compat = "paper"
) -> tuple[int, int] | None:
    """Places of the best and the worst answer to one prompt, for DPO; equal ones go by their order (a stable sort).

    None with fewer than `min_scored` scored answers, or when best and worst score alike ("code" pairs those too).
    """
    scored = [(value, place) for place, value in enumerate(rewards) if value is not None]
    if len(scored) < max(min_scored, 2):
        return None
    ranked = sorted(scored, key=lambda pair: -pair[0])
    best, worst = ranked[0], ranked[-1]
    return None if best[0] == worst[0] and compat == "paper" else (best[1], worst[1])
