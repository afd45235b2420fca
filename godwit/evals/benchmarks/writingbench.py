"""WritingBench: five criteria of its own for each writing request, each judged alone (arXiv 2503.05244).

A criterion's rubric comes with the data; the judge answers with JSON, which is parsed and never evaluated. The
leaderboard prints ten times the mean. Judges have changed over the years: compare only runs of one judge.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from godwit.evals.harness.kit import Ask, Judge, Kit, Reply, fill
from godwit.evals.harness.outcomes import OVERALL, Figure, Outcome
from godwit.evals.harness.published import JudgeSettings, Table
from godwit.evals.metrics.intervals import mean_interval
from godwit.evals.metrics.writingbench import Query, domains, overall, parse_score

TITLE, DATA, FILE, ID = "WritingBench", "X-PLUG/WritingBench, benchmark_query/", "benchmark_all.jsonl", "index"
METRICS = ("score",)
MAX_TOKENS, TEMPERATURE = 16_000, 0.7
PROMPT = """You judge one aspect of a piece of writing, by a rubric, and nothing else.

<request>
{{request}}
</request>

<writing>
{{writing}}
</writing>

<rubric name="{{name}}">
{{rubric}}
</rubric>

Be strict: 10 is for writing that could not be better in this aspect, 5 for what is acceptable, 1 for what misses it.
Give a whole number from 1 to 10. Answer with one JSON object: {"reason": "...", "score": 5}"""
PROMPTS = {"criterion": PROMPT}
JUDGE = JudgeSettings(
    temperature=1.0,
    retry_temperature=1.0,
    attempts=5,
    max_tokens=2048,
    published="a tuned Qwen2.5-7B critic; later Claude 3.7, Sonnet 4, Sonnet 4.5",
)
REHEARSAL: dict[str, object] = {}


class Criterion(BaseModel):
    """A criterion: its name, and whatever else the data says of it (description, bands of the rubric)."""

    model_config = ConfigDict(extra="allow")
    name: str


class Row(BaseModel):
    """A request with its checklist, with the published field names."""

    index: str
    query: str = Field(min_length=1)
    domain1: str = ""
    domain2: str = ""
    checklist: list[Criterion] = Field(min_length=1)

    @field_validator("index", mode="before")
    @classmethod
    def _number_is_a_name(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("checklist")
    @classmethod
    def _names_differ(cls, checklist: list[Criterion]) -> list[Criterion]:
        names = [criterion.name for criterion in checklist]
        if len(set(names)) < len(names):
            raise ValueError("two criteria have one name")
        return checklist


@dataclass(frozen=True, kw_only=True)
class Options:
    """Nothing to choose."""


async def answer(row: Row, ask: Ask, options: Options, kit: Kit) -> Reply:
    """The request as it is."""
    return await ask(row.query)


def longest_prompt(row: Row, options: Options, kit: Kit) -> str:
    """What must fit into the model."""
    return row.query


async def score(row: Row, reply: Reply, judge: Judge, options: Options, kit: Kit) -> Outcome:
    """The mean of the criteria that were judged; a criterion without a verdict is unscored by itself."""
    scores: dict[str, int | None] = {}
    replies: dict[str, list[str]] = {}
    reasons: list[str] = []
    for criterion in row.checklist:
        verdict = await judge(render(row, reply.text, criterion), parse_score)
        scores[criterion.name], replies[criterion.name] = verdict.value, list(verdict.replies)
        if verdict.value is None:
            reasons.append(f"{criterion.name}: {verdict.reason}")
    known = [value for value in scores.values() if value is not None]
    return Outcome(
        values={"score": fmean(known)} if known else {},
        groups=tuple(filter(None, (row.domain1, row.domain2))),
        unscored={} if known else {"score": "; ".join(reasons)},
        details={"scores": scores, "unscored criteria": reasons, "judge": replies},
    )


def render(row: Row, text: str, criterion: Criterion) -> str:
    """The judge's prompt for one criterion."""
    rubric = "\n".join(f"{name}: {value}" for name, value in (criterion.model_extra or {}).items())
    return fill(PROMPT, {"request": row.query, "writing": text, "name": criterion.name, "rubric": rubric})


def figures(outcomes: Mapping[str, Outcome], rows: Mapping[str, Row], options: Options) -> list[Figure]:
    """Overall (criteria pooled; the interval is that of the queries' means), then each domain and subdomain."""
    broad = [_query(name, outcome, rows[name], rows[name].domain1) for name, outcome in outcomes.items()]
    narrow = [_query(name, outcome, rows[name], rows[name].domain2) for name, outcome in outcomes.items()]
    means = [outcome.values["score"] for outcome in outcomes.values() if "score" in outcome.values]
    pooled = overall(broad)
    interval = mean_interval(means).interval if means else None
    note = "criteria pooled; interval of the queries' means"
    found = [Figure.of(OVERALL, "score", pooled.mean, interval, pooled.num_scores, pooled.num_unscored, note)]
    for name, part in [*domains(broad).items(), *domains(narrow).items()]:
        found += [Figure.of(name, "score", part.mean, None, part.num_scores, part.num_unscored)] if name else []
    return found


def _query(name: str, outcome: Outcome, row: Row, domain: str) -> Query:
    scores = outcome.details.get("scores") or dict.fromkeys(criterion.name for criterion in row.checklist)
    return Query(index=name, domain=domain, scores=scores)


PUBLISHED = Table(
    source="SuperWriter, arXiv 2506.04180 (8.51) and LongWriter-Zero, arXiv 2506.18841 (8.69)",
    columns=("score",),
    rows={"LongWriter-Zero-32B": (8.69,), "SuperWriter-7B": (8.51,)},
    caution="Judged by WritingBench's tuned critic; scores of another judge or prompt do not compare.",
)
