"""What sharing loses as rows for a table, on the terminal and in the report, and as a sentence."""

from collections.abc import Sequence

from godwit.base.aligned import aligned
from godwit.indexcache.quality import HARMLESS_LOSS, HARMLESS_RETRIEVAL, Quality, SideQuality
from godwit.indexcache.sides import DSA

LIMITS = f"{HARMLESS_LOSS:.1%} of loss and {100 * HARMLESS_RETRIEVAL:.0f} points of retrieval"


def about(found: Quality) -> str:
    """What was measured, on how much."""
    answers = [score.num_answers for score in found.sides[0].scores.values()]
    asked = f", retrieval: {min(answers)} answers a task or more" if answers else ""
    return f"loss of {found.num_tokens:,} tokens in rows of {found.seq_len:,}{asked}"


def columns(found: Quality) -> tuple[str, ...]:
    """The head of `rows`."""
    return ("attention", "loss", "change", *(task.replace("_", " ") for task in _tasks(found)), "plan")


def rows(found: Quality) -> list[tuple[str, ...]]:
    """Cells by line, without the head: the sides, then the search's path without what stands among the sides."""
    shown = {side.pattern for side in found.sides}
    return [_cells(found, side) for side in (*found.sides, *(each for each in found.path if each.pattern not in shown))]


def lines(found: Quality) -> list[str]:
    """The table for a terminal."""
    table = aligned([columns(found), *rows(found)], left=(0, len(columns(found)) - 1))
    return [f"{found.model}: {about(found)}", "", *table, *(["", said] if (said := harmless(found)) else [])]


def harmless(found: Quality) -> str:
    """How far along its path a search costs nearly nothing; "" without a path."""
    if not found.path:
        return ""
    least = found.harmless
    if least is None or least.pattern == found.side(DSA).pattern:
        return f"every plan of the search loses more than {LIMITS}: train the indexers that are left"
    kept = f"{least.num_full} of {found.path[0].num_full} indexers"
    return f"{kept} stay within {LIMITS} of all: {least.pattern} ({percent(least.loss, found.side(DSA).loss)} loss)"


def percent(loss: float, base: float) -> str:
    """How much more a loss is than another."""
    return f"{loss / base - 1:+.2%}"


def _tasks(found: Quality) -> Sequence[str]:
    return list(found.sides[0].scores)


def _cells(found: Quality, side: SideQuality) -> tuple[str, ...]:
    return (
        side.side,
        f"{side.loss:.4f}",
        percent(side.loss, found.side(DSA).loss),
        *(f"{score.accuracy:.1%} ± {score.standard_error:.1%}" for score in side.scores.values()),
        side.pattern,
    )
