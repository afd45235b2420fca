"""Labels and ratings in double brackets, as judges are asked for them: `Rating: [[Fully supported]]`, `[[7.5]]`.

Which one counts differs: LongCite's judge rates first and explains after, so its first label counts; LongReward's
analyses first, so its last does (facts of both in their released code).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from godwit.rewards import Compat
from godwit.text.forms import Form, one_of, whole_number

_LABEL = re.compile(r"\[\[([ /a-zA-Z]+)\]\]")
_RATING = re.compile(r"\[\[([0-9]{1,6}(?:\.[0-9]{1,6})?)\]\]")

Which = Literal["first", "last"]


def label(reply: str, which: Which) -> str | None:
    """The first or last label of letters, slashes and blanks, in lower case and trimmed; None if there is none."""
    found = _pick(_LABEL, reply, which)
    return None if found is None else " ".join(found.lower().split())


def rating(reply: str, which: Which, *, lowest: float, highest: float) -> float | None:
    """The first or last number in double brackets (no sign, unit or blank in them).

    None if there is none, or if it lies outside [lowest, highest]: a judge that answers 70 on a scale to 10 has not
    rated. (The released codes of LongCite and LongReward keep such numbers.)
    """
    found = _pick(_RATING, reply, which)
    if found is None:
        return None
    value = float(found)
    return value if lowest <= value <= highest else None


def value_of(
    reply: str, values: Mapping[str, float], which: Which, *, parts: tuple[tuple[str, float], ...] = (), compat: Compat
) -> float | None:
    """What the reply's label is worth.

    Args:
        values: the labels that are allowed, in lower case; another is no verdict, so None.
        parts: for "code": the first of these that is part of the label decides, the last one ("") for all others.
    """
    found = label(reply, which)
    if found is None:
        return None
    if compat == "paper":
        return values.get(found)
    return next(value for part, value in parts if part in found)


def label_form(labels: Iterable[str]) -> Form:
    """Of replies that are one of these labels and nothing else."""
    pattern = rf"\[\[{one_of(labels)}\]\]"
    return lambda _: pattern


def rating_form(lowest: int, highest: int) -> Form:
    """Of replies that are a whole number in double brackets and nothing else."""
    return lambda _: rf"\[\[{whole_number(lowest, highest)}\]\]"


def behind_analysis(form: Form) -> Form:
    """Of replies that say something first, and in the end what is of this form."""
    return lambda room: f"{room.text()}{form(room)}"


def _pick(pattern: re.Pattern[str], reply: str, which: Which) -> str | None:
    found = None
    for match in pattern.finditer(reply):
        found = match[1]
        if which == "first":
            break
    return found
