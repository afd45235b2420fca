"""LongBench v2: the letter in a reply, and the table of accuracies (arXiv 2412.15204; released code).

Extraction: all asterisks are removed; the first "The correct answer is (X)" anywhere wins, else the first "The correct
answer is X", X one of A to D and the case as written here. So a colon, a line break or two blanks before X give no
answer, and "The correct answer is Apple" is A: that is the published rule.

Cells: all, easy, hard, short, medium, long, and each domain: 100 * right / asked. A question whose call failed was
asked and not answered. The released script divides by the rows it wrote, in which failed calls are missing: its
published GPT-4o row has 250 right of 499, printed as 50.1, where 250 of 503 is 49.7; `compat="code"` divides so.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from godwit.evals.metrics.intervals import Interval, binomial_interval
from godwit.rewards import Compat
from godwit.text.forms import Room

LETTERS = ("A", "B", "C", "D")
CHANCE = 0.25
"""What a compensated score credits for a question without an answer."""
NUM_QUESTIONS = 503
_FORMS = (re.compile(r"The correct answer is \(([A-D])\)"), re.compile(r"The correct answer is ([A-D])"))


def extract_answer(reply: str) -> str | None:
    """The letter a reply gives; None if it gives none in the published form."""
    reply = reply.replace("*", "")
    for form in _FORMS:
        found = form.search(reply)
        if found:
            return found[1]
    return None


def answer_form(room: Room) -> str:
    """Of replies in which `extract_answer` finds a letter."""
    return rf"(?:{room.text()}\n)?The correct answer is \([A-D]\)"


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One question and what became of it.

    Attributes:
        letter: what the reply gave; None if there is no such thing in it.
        failed: no reply came at all (the call failed, or an empty one).
    """

    answer: str
    letter: str | None
    difficulty: str
    length: str
    domain: str
    failed: bool = False


@dataclass(frozen=True)
class Cell:
    """One accuracy in percent, over how many, and its 95% interval (None for a compensated one: no count of hits)."""

    name: str
    accuracy: float
    num_asked: int
    num_failed: int
    interval: Interval | None


def accuracy_cells(rows: Sequence[Answered], *, compensated: bool = False, compat: Compat = "paper") -> list[Cell]:
    """The table: overall first, then difficulty, length and domain; cells without a question are left out.

    Args:
        compensated: credit 0.25 for every question without an answer, as the released code's option does.
        compat: "code" leaves questions out whose call failed; "paper" counts all that were asked.
    """
    if compat == "code":
        rows = [row for row in rows if not row.failed]
    domains = sorted({row.domain for row in rows})
    groups = [
        ("overall", rows),
        *((name, [row for row in rows if row.difficulty == name]) for name in ("easy", "hard")),
        *((name, [row for row in rows if row.length == name]) for name in ("short", "medium", "long")),
        *((name, [row for row in rows if row.domain == name]) for name in domains),
    ]
    return [_cell(name, group, compensated) for name, group in groups if group]


def _cell(name: str, rows: Sequence[Answered], compensated: bool) -> Cell:
    hits = sum(row.letter == row.answer for row in rows)
    silent = sum(row.letter is None for row in rows)
    credit = hits + (CHANCE * silent if compensated else 0.0)
    return Cell(
        name=name,
        accuracy=100 * credit / len(rows),
        num_asked=len(rows),
        num_failed=sum(row.failed for row in rows),
        interval=None if compensated else binomial_interval(hits, len(rows)).times(100),
    )


def failures(rows: Iterable[Answered]) -> int:
    """Questions without a reply."""
    return sum(row.failed for row in rows)
