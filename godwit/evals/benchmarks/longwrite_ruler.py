"""LongWrite-Ruler: how long does a model write when it is asked for 1,000 to 30,000 words? (arXiv 2408.07055, figure 1)

For each required length the mean length of the texts: most models stop near 2,000 words whatever they are asked for, at
the longest texts they were tuned on. No judge. Rows are those of `evaluation/longwrite_ruler.jsonl` of THUDM/LongWriter
(commit ca6ccd4): prompt, length, and a type that plays no part.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, Field

from godwit.evals.harness.kit import Ask, Judge, Kit, Reply
from godwit.evals.harness.outcomes import Figure, Outcome, mean_figures
from godwit.evals.harness.published import Table
from godwit.rewards.length import length_score
from godwit.text.words import count_words

TITLE, DATA, FILE, ID = "LongWrite-Ruler", "LongWriter's repository", "longwrite_ruler.jsonl", None
METRICS = ("S_l", "words", "percent of required")
MAX_TOKENS, TEMPERATURE = 32_768, 0.5
PROMPTS: dict[str, str] = {}
JUDGE = None
REHEARSAL: dict[str, object] = {}


class Row(BaseModel):
    """A request with the length it asks for, in words."""

    prompt: str = Field(min_length=1)
    length: int = Field(ge=1)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Nothing to choose."""


async def answer(row: Row, ask: Ask, options: Options, kit: Kit) -> Reply:
    """The request as it is."""
    return await ask(row.prompt)


def longest_prompt(row: Row, options: Options, kit: Kit) -> str:
    """What must fit into the model."""
    return row.prompt


async def score(row: Row, reply: Reply, judge: Judge, options: Options, kit: Kit) -> Outcome:
    """Length by count."""
    words = count_words(reply.text)
    values = (length_score(words, row.length), float(words), 100 * words / row.length)
    return Outcome(values=dict(zip(METRICS, values)), groups=(f"{row.length} words",), details={"finish": reply.finish})


def figures(outcomes: Mapping[str, Outcome], rows: Mapping[str, Row], options: Options) -> list[Figure]:
    """Overall and by required length, shortest first."""
    found = mean_figures(list(outcomes.values()), METRICS)
    return sorted(found, key=lambda figure: int(figure.group.split()[0]) if figure.group[0].isdigit() else 0)


PUBLISHED = Table(
    source="LongWriter, arXiv 2408.07055, figure 1: a plot without a table",
    columns=("words",),
    rows={"off-the-shelf models, about": (2000.0,)},
    caution="8 instructions at 6 lengths; the mean over lengths says little, read the rows by length.",
)
