"""LongBench-Cite: are answers about long texts right, and do their citations support them? (LongCite, arXiv 2409.02897)

The text's sentences are numbered; the answer comes as statements with spans of sentences (`godwit.rewards.citations`).
The judge says of each statement how far its citations support it (or whether it needed one), and of each citation
whether it is relevant; and rates the answer without its citations against the references. Headline: citation F1, the
mean over the five data sets of the mean over answers.

`--no-cite` asks for an answer without citations, for C_LQA; `--plain-run FOLDER` of such a run adds the correctness
ratio. Rows are those of `LongBench-Cite.json`, one list: idx, dataset, context, query, answer and few_shot_scores (each
answer, score), as `LongBench-Cite/pred_sft.py` and `eval_correct.py` of THUDM/LongCite read them (commits 278c974,
fd8e8a3). Prompts are ours; the released ones number sentences the same way. An answer with one missing verdict has no
citation scores (the released code drops it likewise), but it is counted.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from godwit.base.errors import GodwitError
from godwit.base.seeds import derive_seed
from godwit.evals.benchmarks import _cite_prompts as prompts
from godwit.evals.harness.data import number_is_a_name
from godwit.evals.harness.kit import Ask, Judge, Kit, Reply, fill
from godwit.evals.harness.outcomes import OVERALL, Figure, Outcome, mean_figures
from godwit.evals.harness.published import JudgeSettings, Table
from godwit.evals.harness.result import read_result
from godwit.evals.metrics.intervals import Interval
from godwit.rewards.citation_scores import (
    Verdict,
    citation_length,
    citation_scores,
    need_form,
    needs_citation,
    relevance_form,
    relevance_of,
    support_form,
    support_of,
)
from godwit.rewards.citations import (
    MAX_STATEMENTS,
    Statement,
    cited_texts,
    parse_statements,
    plain_answer,
    statements_form,
)
from godwit.rewards.correctness import (
    Scale,
    best_of,
    correctness_form,
    correctness_of,
    correctness_ratios,
    mean_ratio,
)
from godwit.text.forms import Room, some_text
from godwit.text.sentences import Splitter, numbered, sentence_texts, split_sentences, splitter_id

TITLE, DATA, FILE, ID = "LongBench-Cite", "THUDM/LongCite, LongBench-Cite/", "LongBench-Cite.json", "idx"
METRICS = ("citation F1", "citation recall", "citation precision", "correctness")
MAX_TOKENS, TEMPERATURE = 1024, 1.0
PROMPTS = prompts.PROMPTS
JUDGE = JudgeSettings(temperature=0.0, retry_temperature=1.0, attempts=5, max_tokens=64, published="gpt-4o-2024-05-13")
REHEARSAL: dict[str, object] = {}
_POOLED = {"multifieldqa_en": "multifieldqa", "multifieldqa_zh": "multifieldqa"}
_SCALES: dict[str, Scale] = {"longbench-chat": "chat", "gov_report": "summary"}


class Anchor(BaseModel):
    """A graded answer that is shown to the judge of LongBench-Chat."""

    answer: str
    score: float


class Row(BaseModel):
    """One question, with the published field names."""

    idx: str
    dataset: Literal["longbench-chat", "multifieldqa_en", "multifieldqa_zh", "hotpotqa", "dureader", "gov_report"]
    context: str = Field(min_length=1)
    query: str = Field(min_length=1)
    answer: list[str] = Field(min_length=1)
    few_shot_scores: list[Anchor] = []

    _none_is_empty = field_validator("few_shot_scores", mode="before")(lambda value: [] if value is None else value)

    _number_is_a_name = field_validator("idx", mode="before")(number_is_a_name)

    @model_validator(mode="after")
    def _chat_has_anchors(self) -> "Row":
        if self.dataset == "longbench-chat" and not self.few_shot_scores:
            raise ValueError("longbench-chat needs few_shot_scores")
        return self


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to ask and what to judge."""

    cite: bool = True
    """ask for citations; without them only correctness is judged (C_LQA)"""
    splitter: Splitter = "punkt"
    """of sentences: punkt (as the released benchmark), or punkt-trained on the text (as its inference code)"""
    correctness: bool = True
    """judge correctness too"""
    plain_run: str = ""
    """folder of a run with --no-cite on the same data: adds the correctness ratio"""


async def answer(row: Row, ask: Ask, options: Options, kit: Kit) -> Reply:
    """One call."""

    def form(room: Room) -> str:
        return statements_form(room, len(split_sentences(row.context, splitter=options.splitter)))

    return await ask(kit.fit(render(row, options, kit)), form=form if options.cite else some_text)


def render(row: Row, options: Options, kit: Kit) -> str:
    """The prompt: numbered sentences, or the plain text."""
    if not options.cite:
        return fill(PROMPTS["plain"], {"context": row.context, "query": row.query})
    sentences = split_sentences(row.context, splitter=options.splitter)
    return fill(PROMPTS["cite"], {"context": numbered(row.context, sentences), "query": row.query})


longest_prompt = render


async def score(row: Row, reply: Reply, judge: Judge, options: Options, kit: Kit) -> Outcome:
    """Citations and correctness, each unscored by itself."""
    values: dict[str, float] = {}
    unscored: dict[str, str] = {}
    details: dict[str, Any] = {"finish": reply.finish}
    if options.cite:
        await _score_citations(row, reply, judge, options, kit, values, unscored, details)
    if options.correctness or not options.cite:
        found, reason = await _correctness(row, plain_answer(reply.text), judge, kit)
        if found is None:
            unscored["correctness"] = reason
        else:
            values["correctness"] = 100 * found
    groups = (_POOLED.get(row.dataset, row.dataset), *([row.dataset] if row.dataset in _POOLED else []))
    return Outcome(values=values, groups=groups, unscored=unscored, details=details)


async def _score_citations(
    row: Row,
    reply: Reply,
    judge: Judge,
    options: Options,
    kit: Kit,
    values: dict[str, float],
    unscored: dict[str, str],
    details: dict[str, Any],
) -> None:
    sentences = sentence_texts(row.context, split_sentences(row.context, splitter=options.splitter))
    statements = parse_statements(reply.text, len(sentences))
    judged: list[dict[str, Any]] = []
    verdicts: list[Verdict] = []
    plain = plain_answer(reply.text)
    for statement in statements[:MAX_STATEMENTS]:
        verdict, record = await _judge_statement(row, plain, statement, cited_texts(statement, sentences), judge)
        judged.append(record)
        if verdict is not None:
            verdicts.append(verdict)
    texts = [text for statement in statements for text in cited_texts(statement, sentences)]
    lengths = [kit.num_tokens(text) for text in texts]
    details |= {
        "splitter": splitter_id(options.splitter),
        "statements": judged,
        "num_statements": len(statements),
        "citation_tokens": [length for length in lengths if length is not None],
    }
    if len(verdicts) < len(judged):
        reason = next(record["reason"] for record in judged if record["reason"])
        unscored |= dict.fromkeys(METRICS[:3], f"{len(judged) - len(verdicts)} statements without a verdict: {reason}")
        return
    scores = citation_scores(verdicts)
    values |= dict(zip(METRICS, (100 * scores.f1, 100 * scores.recall, 100 * scores.precision)))


async def _judge_statement(
    row: Row, plain: str, statement: Statement, cited: Sequence[str], judge: Judge
) -> tuple[Verdict | None, dict[str, Any]]:
    """The verdict on one statement (None if a part is missing), and what was said."""
    record: dict[str, Any] = {"statement": statement.text, "spans": [list(span) for span in statement.spans]}
    base = {"query": row.query, "statement": statement.text}
    if not statement.spans:
        prompt = fill(PROMPTS["need"], base | {"answer": plain})
        need = await judge(prompt, needs_citation, form=need_form)
        record |= {"needs a citation": need.value, "judge": list(need.replies), "reason": need.reason}
        return (None if need.value is None else Verdict(1 - need.value)), record
    prompt = fill(PROMPTS["support"], base | {"snippet": "\n\n".join(cited).strip()})
    support = await judge(prompt, support_of, form=support_form)
    relevant = [
        await judge(fill(PROMPTS["relevance"], base | {"snippet": text.strip()}), relevance_of, form=relevance_form)
        for text in cited
    ]
    parts = [support, *relevant]
    record |= {
        "support": support.value,
        "relevant": [verdict.value for verdict in relevant],
        "judge": [reply for part in parts for reply in part.replies],
        "reason": next((part.reason for part in parts if part.value is None), ""),
    }
    values = [verdict.value for verdict in relevant if verdict.value is not None]
    if support.value is None or len(values) < len(relevant):
        return None, record
    return Verdict(support.value, tuple(values)), record


async def _correctness(row: Row, plain: str, judge: Judge, kit: Kit) -> tuple[float | None, str]:
    """The best over the references, and why there is none."""
    scale = _SCALES.get(row.dataset, "qa")
    scores: list[float | None] = []
    reason = ""
    for reference in row.answer:
        values = {"reference": reference, "answer": plain}
        if scale == "chat":
            anchors = list(row.few_shot_scores)
            # The released code shuffles them without a seed, so the same answer is judged by different prompts.
            random.Random(derive_seed(kit.seed, "anchors", row.idx)).shuffle(anchors)
            shown = (f"<answer>\n{a.answer}\n</answer>\nRating: [[{a.score:g}]]" for a in anchors)
            values |= {"anchors": "\n\n".join(shown), "answer": " ".join(plain.split())}
        if scale != "summary":
            values["query"] = row.query
        prompt, form = fill(PROMPTS[f"correct_{scale}"], values), correctness_form(scale)
        verdict = await judge(prompt, lambda reply: correctness_of(reply, scale), form=form)
        scores.append(verdict.value)
        reason = verdict.reason or reason
        if verdict.value == 1.0:
            break  # no reference can do better
    return best_of(scores), reason


def figures(outcomes: Mapping[str, Outcome], rows: Mapping[str, Row], options: Options) -> list[Figure]:
    """Data sets, their unweighted mean as the headline, citation length pooled, the correctness ratio."""
    metrics = METRICS if options.cite else METRICS[3:]
    if options.cite and not options.correctness:
        metrics = METRICS[:3]
    cells = [figure for figure in mean_figures(list(outcomes.values()), metrics) if figure.group != OVERALL]
    groups = {_POOLED.get(row.dataset, row.dataset) for row in rows.values()}
    found = [_macro([f for f in cells if f.metric == metric and f.group in groups], metric) for metric in metrics]
    lengths = [n for outcome in outcomes.values() for n in outcome.details.get("citation_tokens", [])]
    if lengths:
        found.append(
            Figure.of(OVERALL, "citation length", citation_length(lengths), None, len(lengths), 0, "tokens, pooled")
        )
    return found + _ratios(cells, groups, options) + cells


def _macro(cells: Sequence[Figure], metric: str) -> Figure:
    """Unweighted mean of the data sets; normal interval from their standard errors, if each has one."""
    known = [cell for cell in cells if cell.value is not None]
    missing = sum(cell.num_missing for cell in cells)
    if not known:
        return Figure(group=OVERALL, metric=metric, value=None, num_missing=missing)
    mean = fmean(cell.value for cell in known if cell.value is not None)
    halves = [(cell.high - cell.low) / 2 for cell in known if cell.low is not None and cell.high is not None]
    half = sum(h * h for h in halves) ** 0.5 / len(known) if len(halves) == len(known) else None
    interval = None if half is None else Interval(mean - half, mean + half)
    note = f"unweighted mean of {len(known)} data sets"
    return Figure.of(OVERALL, metric, mean, interval, sum(cell.num_scored for cell in known), missing, note)


def _ratios(cells: Sequence[Figure], groups: set[str], options: Options) -> list[Figure]:
    if not options.plain_run:
        return []
    plain = read_result(Path(options.plain_run))
    if plain.benchmark != "longbench_cite":
        raise GodwitError(
            f"--plain-run {options.plain_run} is a run of {plain.benchmark}; give one of longbench_cite --no-cite"
        )
    ours = {f.group: f.value for f in cells if f.metric == "correctness" and f.group in groups and f.value is not None}
    theirs = {f.group: f.value for f in plain.figures if f.metric == "correctness" and f.value is not None}
    shared = ours.keys() & theirs.keys()
    ratios = correctness_ratios({name: ours[name] for name in shared}, {name: theirs[name] for name in shared})
    average = mean_ratio(ratios)
    pairs = [(OVERALL, average), *sorted(ratios.items())]
    note = "percent of the plain run's correctness; overall the mean of the ratios"
    return [
        Figure.of(name, "correctness ratio", None if ratio is None else 100 * ratio, None, len(shared), 0, note)
        for name, ratio in pairs
    ]


PUBLISHED = Table(
    source="LongCite, arXiv 2409.02897, tables 2 and 3",
    columns=("citation F1", "citation length", "correctness", "correctness ratio"),
    rows={
        "LongCite-8B": (72.0, 85, 71.7, 107),
        "LongCite-9B": (69.2, 91, 70.4, 109),
        "Claude-3-Sonnet": (67.2, 132, 77.6, 99),
        "GPT-4o": (65.6, 220, 69.4, 88),
        "GLM-4": (65.4, 169, 73.7, 95),
        "Mistral-Large": (51.5, 132, None, None),
        "Llama-3.1-70B": (40.4, 174, None, None),
        "GLM-4-9B-chat": (27.2, None, None, None),
        "Llama-3.1-8B": (19.7, None, None, None),
    },
    caution="All 1,000 questions, judged by gpt-4o-2024-05-13 with the paper's prompts; lengths in GLM-4-9B's tokens.",
)
