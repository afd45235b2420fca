"""LongBench-Write: does a long text have the asked length (S_l), and is it good (S_q)? (LongWriter, arXiv 2408.07055)

S = (S_l + S_q) / 2, each 0 to 100; see `godwit.rewards.length` and `godwit.rewards.quality`. The judge's prompt is
ours. Rows are those of `evaluation/longbench_write.jsonl` of THUDM/LongWriter (commit ca6ccd4): prompt, type, length;
`longbench_write_en.jsonl` beside it is the English part. A text that the judge gave no verdict for has S_l and no S; an
empty text has S_l 0 and no S_q.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, Field

from godwit.evals.benchmarks import _long_text as shared
from godwit.evals.harness.kit import Ask, Judge, Kit, Reply
from godwit.evals.harness.outcomes import Figure, Outcome
from godwit.evals.harness.published import Table

TITLE, DATA, FILE, ID = "LongBench-Write", "LongWriter's repository, evaluation/", "longbench_write.jsonl", None
METRICS = shared.METRICS
MAX_TOKENS, TEMPERATURE = 32_768, 0.5
PROMPTS = {"quality": shared.QUALITY_PROMPT}
JUDGE = shared.judge_settings("gpt-4o-2024-05-13")
REHEARSAL: dict[str, object] = {}
EDGES = (0, 500, 2_000, 4_000)


class Row(BaseModel):
    """A request with the length it asks for, in words."""

    prompt: str = Field(min_length=1)
    length: int = Field(ge=1)
    type: str = ""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Nothing to choose: the length formula of LongWriter's paper is that of its code."""


async def answer(row: Row, ask: Ask, options: Options, kit: Kit) -> Reply:
    """The request as it is."""
    return await ask(row.prompt)


def longest_prompt(row: Row, options: Options, kit: Kit) -> str:
    """What must fit into the model."""
    return row.prompt


async def score(row: Row, reply: Reply, judge: Judge, options: Options, kit: Kit) -> Outcome:
    """Length by count, quality by the judge."""
    groups = (f"length {shared.bucket(row.length, EDGES)}", *([f"type {row.type}"] if row.type else []))
    return await shared.long_text_outcome(row.prompt, row.length, reply, judge, groups=groups, compat="paper")


def figures(outcomes: Mapping[str, Outcome], rows: Mapping[str, Row], options: Options) -> list[Figure]:
    """Overall, by required length and by type."""
    return shared.long_text_figures(list(outcomes.values()))


PUBLISHED = Table(
    source="LongWriter, arXiv 2408.07055, table 2",
    columns=("S", "S_l", "S_q"),
    rows={
        "LongWriter-9B-DPO": (84.0, 82.6, 85.4),
        "LongWriter-9B": (80.5, 78.6, 82.3),
        "LongWriter-8B": (79.8, 77.4, 82.2),
        "Claude 3.5 Sonnet": (80.7, 73.7, 87.7),
        "GPT-4o": (78.6, 65.3, 91.8),
        "GPT-4o mini": (77.6, 64.9, 90.3),
        "Mistral-Large": (77.0, 65.6, 88.3),
        "GLM-4-9B-chat": (68.3, 51.0, 85.5),
        "GPT-4 Turbo": (67.3, 47.9, 86.6),
        "Llama-3.1-70B": (65.6, 50.8, 80.3),
        "Llama-3.1-8B": (60.3, 50.0, 70.6),
        "Suri": (56.6, 59.6, 53.5),
    },
    caution="All 120 prompts, judged by gpt-4o-2024-05-13 with the paper's prompt; S_q of another judge or prompt does "
    "not compare, S_l does. Four of these rows were checked against a second source, the others are from notes of the "
    "paper: look a number up there before quoting it.",
)
