"""Preference pairs for planning, writing and refining, out of a tree of texts and a judge: SuperWriter's DPO data.

Source: SuperWriter (https://arxiv.org/abs/2506.04180), section 3.3 and its released code. Prompts are our own. The
writer is the model to be trained: one that took to the three steps of `superwriter`, whose form and prompts it is asked
in. Of each instruction grows a tree: 5 plans, of each 4 drafts, of each 3 refinements (the code: 2), drawn until there
are enough valid ones or the tries are out (10, 8, 6). It may end up smaller, and any size is paired.

The judge takes relevance, coherence and clarity, picks three more of six criteria for this instruction, and words a
scale for each. It rates each leaf on each of the six from 1 to 10, three valid times in at most five; a leaf's score is
the sum of the means. A leaf that could not be rated is left out of the tree (`compat="code"`: that criterion counts 0).

Ranks, values of nodes and pairs: see `rewards.preference_tree`. A full tree gives six pairs: two for plan, two for
write, two for refine. The released code loses the prompts of the latter four; here each pair has its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Literal, get_args

from pydantic import BaseModel, Field

from godwit.rewards import Compat
from godwit.rewards.labels import behind_analysis, rating, rating_form
from godwit.rewards.preference_tree import tree_pairs
from godwit.synth import thoughts
from godwit.synth.ask import Ask, assistant, fill, user
from godwit.synth.draws import attempt, good_draws
from godwit.synth.exchange import JUDGE
from godwit.synth.parse import model_in
from godwit.synth.pipeline import at_least
from godwit.synth.pipelines.superwriter import Task
from godwit.synth.rows import Drop, Malformed, Row, Unscored
from godwit.text.forms import Room

VERSION = 1
JUDGED = True
REHEARSAL: dict[str, object] = {"plans": 2, "drafts": 2, "refinements": 2, "check_lengths": False}
GENERAL = ("relevance", "coherence", "clarity")
Special = Literal["creativity", "argument depth", "emotion", "readability", "interactivity", "context fit"]
NUM_SPECIAL, NUM_RATINGS, RATING_TRIES = 3, 3, 5
HIGHEST = 10
PLAN_WORDS, TEXT_WORDS, PARAGRAPHS = (500, 22_000), (1000, 22_000), (4, 12)
PLAN_TRIES, DRAFT_TRIES, REFINEMENT_TRIES = 10, 8, 6


class Node(BaseModel):
    """A valid text of a step, and what grew of it; `score` of a leaf."""

    text: str
    children: list["Node"] = []
    score: float | None = None


class Grown(Task):
    """With its tree."""

    plans: list[Node]


class Criterion(BaseModel):
    """What a text is rated for, and what the ratings mean."""

    name: str = Field(min_length=1)
    scale: str = Field(min_length=1)


class Criteria(BaseModel):
    """What the judge answers."""

    general: list[Criterion]
    special: list[Criterion]


class Rated(Grown):
    """With the leaves' scores."""

    criteria: list[Criterion]
    unscored: str


class Pair(Row):
    """For DPO. `chosen_path`, `rejected_path`: places in the tree, from the plan down.

    The values are what was compared: means of the discretised ranks for plan and write, scores for refine.
    """

    instruction: str
    prompt: list[dict[str, str]]
    chosen: list[dict[str, str]]
    rejected: list[dict[str, str]]
    step: thoughts.Step
    chosen_value: float
    rejected_value: float
    chosen_path: list[int]
    rejected_path: list[int]
    num_leaves: int
    num_scored: int


@dataclass(frozen=True)
class Options:
    """Options of superwriter_dpo."""

    plans: int = 5
    """of an instruction"""
    drafts: int = 4
    """of a plan"""
    refinements: int = 3
    """of a draft; the released code has 2"""
    temperature: float = 0.6
    """of the writer"""
    top_p: float = 0.95
    """of the writer"""
    text_tokens: int = 32_768
    """most tokens of a plan, draft or refinement"""
    judge_temperature: float = 0.6
    """of the judge"""
    judge_tokens: int = 4096
    """most tokens of a verdict, thoughts included"""
    check_lengths: bool = True
    """ask of plans more than 500 words, of texts more than 1000 and 4 to 12 paragraphs, as the paper does"""
    compat: Compat = "paper"
    """code: ordinal ranks, 0 for what was not rated, pairs of equal values and of only children with themselves"""

    def __post_init__(self) -> None:
        at_least(self, 1, "plans", "drafts", "refinements", "text_tokens", "judge_tokens")


async def grow(row: Task, ask: Ask[Options]) -> Grown:
    """One call a node, and one for each that was not valid."""
    options = ask.options
    missing: list[str] = []

    async def plan(ask: Ask[Options], number: int) -> Node:
        return Node(text=await _drawn(ask, "plan", [row.instruction], number))

    async def refined(ask: Ask[Options], draft: Node) -> Node:
        given = thoughts.read(draft.text).answers

        async def refinement(ask: Ask[Options], number: int) -> Node:
            return Node(text=await _drawn(ask, "refine", given, number))

        leaves, reasons = await good_draws(ask, refinement, count=options.refinements, tries=REFINEMENT_TRIES)
        missing.extend(reasons)
        return Node(text=draft.text, children=leaves)

    async def drafted(ask: Ask[Options], plan: Node) -> Node:
        given = thoughts.read(plan.text).answers

        async def draft(ask: Ask[Options], number: int) -> Node:
            return Node(text=await _drawn(ask, "write", given, number))

        drafts, reasons = await good_draws(ask, draft, count=options.drafts, tries=DRAFT_TRIES)
        missing.extend(reasons)
        return Node(text=plan.text, children=await ask.each(drafts, refined))

    plans, reasons = await good_draws(ask, plan, count=options.plans, tries=PLAN_TRIES)
    missing.extend(reasons)
    plans = await ask.each(plans, drafted)
    if not any(draft.children for plan in plans for draft in plan.children):
        raise Drop(f"no plan, draft and refinement was valid; {min(missing)}")
    return row.to(Grown, plans=plans)


async def rate(row: Grown, ask: Ask[Options]) -> Rated:
    """One call of the judge for the criteria, then for each leaf three for each of them."""
    prompt = fill(_CRITERIA, instruction=row.instruction)
    settings = {"max_tokens": ask.options.judge_tokens, "temperature": ask.options.judge_temperature}
    criteria = await ask.parsed("criteria", [user(prompt)], chosen_criteria, form=criteria_form, role=JUDGE, **settings)
    reasons: dict[tuple[int, int, int], str] = {}

    async def score(ask: Ask[Options], path: tuple[int, int, int]) -> float | None:
        text = "\n\n".join(thoughts.read(_node(row.plans, path).text).answers)
        draw = await attempt(_score(ask, row.instruction, text, criteria))
        if draw.reason:
            reasons[path] = draw.reason
        return draw.value

    paths = _leaves(row.plans)
    scores = dict(zip(paths, await ask.each(paths, score), strict=True))
    plans = [
        plan.model_copy(update={"children": [_scored(draft, (i, j), scores) for j, draft in enumerate(plan.children)]})
        for i, plan in enumerate(row.plans)
    ]
    return row.to(Rated, plans=plans, criteria=criteria, unscored=reasons[min(reasons)] if reasons else "")


async def pair(row: Rated, ask: Ask[Options]) -> list[Pair]:
    """No call: the pairs of the tree."""
    tree = [[[leaf.score for leaf in draft.children] for draft in plan.children] for plan in row.plans]
    scores = [score for plan in tree for draft in plan for score in draft]
    num_scored = sum(score is not None for score in scores)
    if not num_scored:
        raise Unscored(f"none of {len(scores)} leaves was rated; {row.unscored}")
    found = tree_pairs(tree, compat=ask.options.compat)
    if not found:
        raise Drop(f"nothing to prefer in a tree of {num_scored} rated leaves")
    return [
        row.to(
            Pair,
            prompt=[user(thoughts.prompt(each.step, _given(row, each.chosen)))],
            chosen=[assistant(_node(row.plans, each.chosen).text)],
            rejected=[assistant(_node(row.plans, each.rejected).text)],
            step=each.step,
            chosen_value=each.chosen_value,
            rejected_value=each.rejected_value,
            chosen_path=list(each.chosen),
            rejected_path=list(each.rejected),
            num_leaves=len(scores),
            num_scored=num_scored,
        )
        for each in found
    ]


STAGES = (grow, rate, pair)


def chosen_criteria(text: str) -> list[Criterion]:
    """The three general criteria and the three special ones that the judge chose, each with its scale.

    Raises:
        Malformed: others, or one twice.
    """
    found = model_in(text, Criteria)
    general = {criterion.name.strip().lower(): criterion for criterion in found.general}
    special = {criterion.name.strip().lower(): criterion for criterion in found.special}
    if general.keys() != set(GENERAL) or len(found.general) != len(GENERAL):
        raise Malformed(f"general: there must be {', '.join(GENERAL)}, each once")
    if not special.keys() <= set(get_args(Special)) or not len(special) == len(found.special) == NUM_SPECIAL:
        raise Malformed(f"special: there must be {NUM_SPECIAL} different ones of {', '.join(get_args(Special))}")
    return [*(general[name] for name in GENERAL), *special.values()]


def criteria_form(room: Room) -> str:
    """Of answers that `chosen_criteria` takes; the special ones in the order in which they are named."""

    def all_of(names: Sequence[str]) -> str:
        return ", ".join(rf'\{{"name": "{name}", "scale": {room.string()}\}}' for name in names)

    special = "|".join(all_of(names) for names in combinations(get_args(Special), NUM_SPECIAL))
    return rf'\{{"general": \[{all_of(GENERAL)}\], "special": \[(?:{special})\]\}}'


def grade(text: str) -> float | None:
    """The rating that ends a verdict; None if there is none."""
    return rating(text, "last", lowest=1, highest=HIGHEST)


grade_form = behind_analysis(rating_form(1, HIGHEST))
"""Of answers that `grade` takes."""


async def _drawn(ask: Ask[Options], step: thoughts.Step, given: Sequence[str], number: int) -> str:
    """One text of a step, ended by its mark.

    Raises:
        Drop: it is not valid.
    """
    options = ask.options
    said = await ask.said(
        step,
        [user(thoughts.prompt(step, given))],
        form=lambda room: thoughts.form(step, room, paragraphs=PARAGRAPHS if options.check_lengths else None),
        draw=number,
        max_tokens=options.text_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        stop=[thoughts.END],
    )
    text = said.partition(thoughts.END)[0].rstrip()
    if options.check_lengths:
        limits = {"words": PLAN_WORDS if step == "plan" else TEXT_WORDS, "paragraphs": PARAGRAPHS}
    else:
        limits = {}
    fault = thoughts.fault(step, text, **limits)
    if fault:
        raise Drop(f"{step}: {fault}")
    return f"{text}\n\n{thoughts.END}"


async def _score(ask: Ask[Options], instruction: str, text: str, criteria: Sequence[Criterion]) -> float:
    """Sum over the criteria of the mean of three ratings."""

    async def mean(ask: Ask[Options], criterion: Criterion) -> float:
        about = {"instruction": instruction, "text": text, "name": criterion.name, "scale": criterion.scale}
        prompt = fill(_RATE, **about)

        async def one(ask: Ask[Options], number: int) -> float:
            said = await ask.said(
                "rate",
                [user(prompt)],
                form=grade_form,
                role=JUDGE,
                draw=number,
                max_tokens=ask.options.judge_tokens,
                temperature=ask.options.judge_temperature,
            )
            found = grade(said)
            if found is None:
                raise Unscored("no rating from [[1]] to [[10]]")
            return found

        ratings, reasons = await good_draws(ask, one, count=NUM_RATINGS, tries=RATING_TRIES)
        if len(ratings) == NUM_RATINGS:
            return fmean(ratings)
        if ask.options.compat == "code":
            return 0.0
        raise Unscored(f"{criterion.name}: {len(ratings)} ratings of {NUM_RATINGS}; {reasons[0]}")

    return sum(await ask.each(criteria, mean))


def _node(plans: Sequence[Node], path: Sequence[int]) -> Node:
    node = plans[path[0]]
    for place in path[1:]:
        node = node.children[place]
    return node


def _leaves(plans: Sequence[Node]) -> list[tuple[int, int, int]]:
    return [
        (i, j, k)
        for i, plan in enumerate(plans)
        for j, draft in enumerate(plan.children)
        for k in range(len(draft.children))
    ]


def _scored(draft: Node, path: tuple[int, int], scores: Mapping[tuple[int, int, int], float | None]) -> Node:
    leaves = [leaf.model_copy(update={"score": scores[(*path, k)]}) for k, leaf in enumerate(draft.children)]
    return draft.model_copy(update={"children": leaves})


def _given(row: Rated, path: Sequence[int]) -> list[str]:
    """What the node at `path` was asked with."""
    return [row.instruction] if len(path) == 1 else thoughts.read(_node(row.plans, path[:-1]).text).answers


_CRITERIA = """\
Texts written to the following instruction are to be rated.

<instruction>
{instruction}
</instruction>

Six criteria are used. Three always: "relevance", "coherence", "clarity". Choose three more that matter most for this
instruction, out of: "creativity", "argument depth", "emotion", "readability", "interactivity", "context fit". Then
write a scale for each of the six, made for this instruction: what a text is like that gets 1-2, 3-4, 5-6, 7-8 and 9-10.

Answer with JSON in this form and nothing else:
{{"general": [{{"name": "relevance", "scale": "1-2: ... 9-10: ..."}}, ...], "special": [{{"name": "creativity", "scale":
"..."}}, ...]}}"""
_RATE = """\
Rate a text for one thing alone: {name}.

What was asked for:
<instruction>
{instruction}
</instruction>

The scale:
<scale>
{scale}
</scale>

The text:
<text>
{text}
</text>

Say in a few sentences how it stands to the scale, then give a whole number from 1 to 10 in double brackets at the end,
in this form: Rating: [[6]]"""
