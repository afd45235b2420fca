"""Long outputs, without a judge: is the length kept, are facts kept straight and instructions kept, to the end?

Our own probes of what the position paper on long outputs (arXiv 2503.04723) asks for: length apart from quality,
consistency over the whole text, instructions kept by position, cost. Three kinds of request, each with a length:

    ledger   a diary of n days, each with what is left of a store that shrinks by a rule: share of the n days whose
             number is right (a missing day is wrong), and of the first and last quarter of them
    rule     every paragraph must hold a given word: share of the paragraphs that do, and of the first and last quarter
    plain    length only

A share of the last quarter that is lower than that of the first is what gets lost on the way. `--quality` adds S_q by a
judge (the prompt of LongBench-Write). The rows are made by `make_rows` and lie in the package. The cost is the reply's
tokens for 1,000 words.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from godwit.evals.benchmarks import _long_text as shared
from godwit.evals.harness.kit import Ask, Judge, Kit, Reply
from godwit.evals.harness.outcomes import OVERALL, Figure, Outcome, mean_figures
from godwit.evals.harness.published import Table
from godwit.text.words import count_words

TITLE, DATA, FILE, ID = "Long output", "made here", "long_output.jsonl", "id"
SHARES = ("consistency", "consistency, first quarter", "consistency, last quarter")
SHARES += ("instruction", "instruction, first quarter", "instruction, last quarter")
METRICS = ("S_l", "words", *SHARES, "tokens per 1k words", "S_q")
MAX_TOKENS, TEMPERATURE = 32_768, 0.5
PROMPTS = {"quality": shared.QUALITY_PROMPT}
JUDGE = shared.judge_settings("nobody")
REHEARSAL: dict[str, object] = {"quality": True}
_DAY = re.compile(r"^\W{0,4}Day ([0-9]{1,6})\b", re.MULTILINE)
_LEFT = re.compile(r"\bleft: ([0-9]{1,9})\b", re.IGNORECASE)
_BREAK = re.compile(r"\n[ \t]*\n")


class Row(BaseModel):
    """A request; of a ledger its days, first store and daily use; of a rule its word."""

    id: str
    kind: Literal["ledger", "rule", "plain"]
    prompt: str = Field(min_length=1)
    length: int = Field(ge=1)
    days: int = Field(default=0, ge=0)
    store: int = 0
    use: int = 0
    word: str = ""

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> "Row":
        if self.kind == "ledger" and not (self.days >= 4 and self.store >= self.days * self.use > 0):
            raise ValueError("a ledger needs 4 days or more and a store that lasts")
        if self.kind == "rule" and not self.word:
            raise ValueError("a rule needs its word")
        return self


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is measured besides."""

    quality: bool = False
    """judge the quality too (needs --judge)"""


def judged(options: Options) -> bool:
    """Only quality needs a judge."""
    return options.quality


async def answer(row: Row, ask: Ask, options: Options, kit: Kit) -> Reply:
    """The request as it is."""
    return await ask(row.prompt)


def longest_prompt(row: Row, options: Options, kit: Kit) -> str:
    """What must fit into the model."""
    return row.prompt


async def score(row: Row, reply: Reply, judge: Judge, options: Options, kit: Kit) -> Outcome:
    """By counting; by the judge too if asked for."""
    found = await shared.long_text_outcome(
        row.prompt,
        row.length,
        reply,
        judge if options.quality else None,
        groups=(row.kind, f"{row.length} words"),
        compat="paper",
    )
    words = count_words(reply.text)
    values = {name: found.values[name] for name in ("S_l", "S_q") if name in found.values} | {"words": float(words)}
    if words and reply.output_tokens:
        values["tokens per 1k words"] = 1000 * reply.output_tokens / words
    kept = {"ledger": ledger_days, "rule": rule_paragraphs, "plain": _nothing}[row.kind](row, reply.text)
    values |= shares("consistency" if row.kind == "ledger" else "instruction", kept)
    unscored = {name: reason for name, reason in found.unscored.items() if name == "S_q"}
    return Outcome(values=values, groups=found.groups, unscored=unscored, details=found.details | {"kept": kept})


def ledger_days(row: Row, text: str) -> list[bool]:
    """For each day 1 to n: does its first entry say what is left, rightly (the last such number in it)?"""
    starts = list(_DAY.finditer(text))
    ends = [match.start() for match in starts[1:]] + [len(text)]
    said: dict[int, int | None] = {}
    for match, end in zip(starts, ends):
        numbers = _LEFT.findall(text, match.end(), end)
        said.setdefault(int(match[1]), int(numbers[-1]) if numbers else None)
    return [said.get(day) == row.store - day * row.use for day in range(1, row.days + 1)]


def rule_paragraphs(row: Row, text: str) -> list[bool]:
    """For each paragraph: does it hold the word (any case, as a whole word)?"""
    word = re.compile(rf"\b{re.escape(row.word)}\b", re.IGNORECASE)
    return [bool(word.search(part)) for part in _BREAK.split(text) if part.strip()]


def _nothing(row: Row, text: str) -> list[bool]:
    return []


def shares(name: str, kept: Sequence[bool]) -> dict[str, float]:
    """Percent kept: of all, of the first and of the last quarter (from 4 places on); nothing without places."""
    if not kept:
        return {}
    quarter = len(kept) // 4
    parts = {name: kept}
    if quarter:
        parts |= {f"{name}, first quarter": kept[:quarter], f"{name}, last quarter": kept[-quarter:]}
    return {part: 100 * sum(places) / len(places) for part, places in parts.items()}


def figures(outcomes: Mapping[str, Outcome], rows: Mapping[str, Row], options: Options) -> list[Figure]:
    """Means by kind and by length; cells that cannot have a value are left out."""
    known = {metric for outcome in outcomes.values() for metric in outcome.values} | {"S_l"}
    found = mean_figures(list(outcomes.values()), [metric for metric in METRICS if metric in known])
    apt = [figure for figure in found if figure.value is not None or figure.metric in ("S_l", "words")]
    apt.sort(key=lambda figure: (figure.group != OVERALL, figure.group[0].isdigit()))  # kinds, then lengths
    return [_only_of_its_kind(figure, outcomes, rows) for figure in apt]


def _only_of_its_kind(figure: Figure, outcomes: Mapping[str, Outcome], rows: Mapping[str, Row]) -> Figure:
    """A ledger has no rule to keep: it is not missing there."""
    kind = {"consistency": "ledger", "instruction": "rule"}.get(figure.metric.partition(",")[0])
    if kind is None:
        return figure
    able = [
        name
        for name, outcome in outcomes.items()
        if rows[name].kind == kind and (figure.group == OVERALL or figure.group in outcome.groups)
    ]
    return replace(figure, num_missing=max(0, len(able) - figure.num_scored))


LENGTHS = (500, 1_000, 2_000, 4_000, 8_000)
_WORDS = ("therefore", "harbour", "copper", "winter", "lantern")
_PLACES = ("a weather station", "a lighthouse", "a mountain hut", "a river lock", "an observatory")
_GOODS = ("cans of oil", "sacks of coal", "jars of ink", "boxes of candles", "bags of flour")
_TOPICS = (
    "how bridges are built",
    "the history of maps",
    "how cities get water",
    "the art of baking",
    "bird migration",
)


def make_rows() -> Iterator[dict[str, Any]]:
    """The benchmark's rows: each kind at each length."""
    for number, length in enumerate(LENGTHS):
        days = length // 50
        use, store = 2 + number, (2 + number) * days + 10 + 7 * number
        place, goods = _PLACES[number], _GOODS[number]
        yield {
            "id": f"ledger-{length}",
            "kind": "ledger",
            "length": length,
            "days": days,
            "store": store,
            "use": use,
            "prompt": f"Write the diary of {place} for {days} days, about {length} words in all. Every entry begins "
            'with "Day" and its number, on a line of its own, and ends with what is left in the store, as in '
            f'"Left: {store}". Before day 1 there are {store} {goods}; each day uses exactly {use}, and none are '
            f"brought. Write all {days} entries.",
        }
        word = _WORDS[number]
        yield {
            "id": f"rule-{length}",
            "kind": "rule",
            "length": length,
            "word": word,
            "prompt": f"Write a story of about {length} words about somebody at {place}. Put a blank line between "
            f'paragraphs, and use the word "{word}" in every one of them, to the end.',
        }
        yield {
            "id": f"plain-{length}",
            "kind": "plain",
            "length": length,
            "prompt": f"Write an article of about {length} words on {_TOPICS[number]}.",
        }


PUBLISHED = Table(
    source="none: these probes are ours",
    columns=("S_l",),
    rows={},
    caution="Compare runs with `godwit eval compare`.",
)
