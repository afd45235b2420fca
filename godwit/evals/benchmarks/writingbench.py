"""WritingBench: five criteria of its own for each writing request, each judged alone (arXiv 2503.05244).

A criterion's rubric comes with the data; the judge answers with JSON, which is parsed and never evaluated. The
leaderboard prints ten times the mean. Judges have changed over the years: compare only runs of one judge.

`--requirements FOLDER` adds the figures of the style, format and length subsets: R, over all criteria of the queries
that make such a demand, and C, over the criteria that are about it. The folder is `benchmark_query/requirement` of
X-PLUG/WritingBench: `style/style_subset.jsonl` (each line's `index`) and `style/style_subset_C.jsonl` (with the
criteria's `name`), and so on; read as `calculate_scores.py` there does (commit ac3d0ca). Rows, and their criteria's
`criteria_description`, `1-2`, ..., `9-10`, are those of its files; the first version said `criteria` for `checklist`
(as in the copy lanshipeng/WritingBench, commit cf2827a).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from godwit.base.errors import GodwitError
from godwit.evals.harness.data import number_is_a_name, read_rows
from godwit.evals.harness.kit import Ask, Judge, Kit, Reply, fill
from godwit.evals.harness.outcomes import OVERALL, Figure, Outcome
from godwit.evals.harness.published import JudgeSettings, Table
from godwit.evals.metrics.intervals import mean_interval
from godwit.evals.metrics.writingbench import (
    Query,
    criterion_mean,
    domains,
    overall,
    parse_score,
    query_mean,
    score_form,
)

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
REQUIREMENTS = ("style", "format", "length")


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
    checklist: list[Criterion] = Field(min_length=1, validation_alias=AliasChoices("checklist", "criteria"))

    _number_is_a_name = field_validator("index", mode="before")(number_is_a_name)

    @field_validator("checklist")
    @classmethod
    def _names_differ(cls, checklist: list[Criterion]) -> list[Criterion]:
        names = [criterion.name for criterion in checklist]
        if len(set(names)) < len(names):
            raise ValueError("two criteria have one name")
        return checklist


class Member(BaseModel):
    """A query of a requirement subset; in the C files with the criteria that are about the requirement."""

    index: str
    checklist: list[Criterion] = Field(default=[], validation_alias=AliasChoices("checklist", "criteria"))

    _number_is_a_name = field_validator("index", mode="before")(number_is_a_name)


class Subset(NamedTuple):
    """Queries that make a demand, and which criteria of each are about it."""

    queries: frozenset[str]
    criteria: dict[str, frozenset[str]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which figures."""

    requirements: str = ""
    """folder with the style, format and length subsets, for their figures; left out: none"""

    def __post_init__(self) -> None:
        if self.requirements:
            subsets(self.requirements)  # a fault is said before anything is asked


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
        verdict = await judge(render(row, reply.text, criterion), parse_score, form=score_form)
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
    parts = [*domains(broad).items(), *domains(narrow).items()]
    for requirement, subset in subsets(options.requirements).items() if options.requirements else ():
        inside = [query for query in broad if query.index in subset.queries]
        parts.append((f"{requirement}: R", query_mean(inside)))
        parts.append((f"{requirement}: C", criterion_mean(inside, subset.criteria)))
    for name, part in parts:
        found += [Figure.of(name, "score", part.mean, None, part.num_scores, part.num_unscored)] if name else []
    return found


@cache
def subsets(folder: str) -> dict[str, Subset]:
    """The requirement subsets by name, from their published files."""
    found = {}
    for name in REQUIREMENTS:
        paths = [Path(folder, name, f"{name}_subset{part}.jsonl") for part in ("", "_C")]
        demanding, about = (
            read_rows(str(path), Member, id_field="index", file=path.name).by_id.items() for path in paths
        )
        criteria = {index: frozenset(each.name for each in row.checklist) for index, row in about}
        queries = frozenset(index for index, _ in demanding)
        if not queries.issuperset(criteria):
            extra = sorted(set(criteria) - queries)[:3]
            raise GodwitError(f"{paths[1]} has queries that {paths[0].name} has not: {', '.join(extra)}")
        found[name] = Subset(queries, criteria)
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
