"""Drawing from a model until there are enough good answers, or the tries are out.

What comes out does not hang on which call is the quickest: draws are taken in the order of their numbers, and no more
are asked for than are still missing.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from godwit.synth.ask import Ask
from godwit.synth.rows import Drop, Unscored

ValueT = TypeVar("ValueT")


class Draw(NamedTuple):
    """What a draw came to: a value, or the reason why it has none."""

    value: Any
    reason: str = ""


async def attempt(work: Awaitable[ValueT]) -> Draw:
    """The value of `work`; the reason if it is dropped or unscored. (What failed at the endpoint fails the row.)"""
    try:
        return Draw(await work)
    except (Drop, Unscored) as end:
        return Draw(None, str(end))


async def good_draws(
    ask: Ask[Any], make: Callable[[Ask[Any], int], Awaitable[ValueT]], *, count: int, tries: int
) -> tuple[list[ValueT], list[str]]:
    """The first `count` values of `make(ask, 0)`, `make(ask, 1)`, ..., in at most `tries` draws, and why others failed.

    There are fewer than `count` if the tries are out.
    """
    values: list[ValueT] = []
    reasons: list[str] = []
    drawn = 0
    while len(values) < count and drawn < tries:
        numbers = range(drawn, min(drawn + count - len(values), tries))
        draws = await ask.each(numbers, lambda ask, number: attempt(make(ask, number)))
        values += [draw.value for draw in draws if not draw.reason]
        reasons += [draw.reason for draw in draws if draw.reason]
        drawn = numbers.stop
    return values, reasons
