"""Preference pairs of answers about long documents, by four judged dimensions: LongReward.

Source: LongReward (https://arxiv.org/abs/2410.21252), section 3 and its released code. Prompts are our own. For each
question 10 answers are drawn from the model to be trained (or given as `responses`); a judge rates each from 0 to 10:

    helpfulness    of the answer to the question
    logicality     of the answer in itself
    faithfulness   10 * mean over the facts that the answer states of how the document supports them (1, 0.5 or 0);
                   a fact is judged by the 5 chunks of 128 tokens that it retrieves, in the document's order
    completeness   by what each chunk of 4,096 tokens says on the question, extracted once for all answers

The reward is their mean (`compat="code"`: their sum, and unknown labels count as no support). The best answer is
preferred to the worst; there must be 5 answers with all four ratings, and the two must differ (not in the code).

An answer of which something could not be judged has no reward, and `scores` says why: none is made up. Answers drawn
twice count twice, as they would in training.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, Field

from godwit.rewards import Compat, longreward
from godwit.synth import chunks, retrieval
from godwit.synth.ask import Ask, assistant, fill, user
from godwit.synth.draws import attempt
from godwit.synth.exchange import JUDGE
from godwit.synth.pipeline import at_least
from godwit.synth.pipelines.selfinstruct_longqa import ANSWER_PROMPT, Document, language_of
from godwit.synth.rows import Drop, Malformed, Row, Unscored
from godwit.text.forms import Form

VERSION = 1
JUDGED = True
RETRIEVES = True
REHEARSAL: dict[str, object] = {"samples": 4, "min_scored": 2, "judge_temperature": 1.0}
ValueT = TypeVar("ValueT")
NUM_EVIDENCE = 5
NOTHING = "No relevant information"


class Question(Document):
    """A question about a long text; `responses`: answers to it, if they are not to be drawn."""

    query: str = Field(min_length=1)
    responses: list[str] | None = Field(default=None, min_length=2)


class Answers(Question):
    """With answers."""

    responses: list[str]


class Score(BaseModel):
    """Of one answer; what could not be judged is None, with the reason."""

    helpfulness: float | None = None
    logicality: float | None = None
    faithfulness: float | None = None
    completeness: float | None = None
    reward: float | None = None
    unscored: str = ""


class Scored(Answers):
    """With their scores."""

    scores: list[Score]


class Pair(Row):
    """For DPO. `chosen_place`, `rejected_place`: which of the `scores` are theirs."""

    query: str
    prompt: list[dict[str, str]]
    chosen: list[dict[str, str]]
    rejected: list[dict[str, str]]
    chosen_reward: float
    rejected_reward: float
    chosen_place: int
    rejected_place: int
    scores: list[Score]


@dataclass(frozen=True)
class Options:
    """Options of longreward."""

    samples: int = 10
    """answers drawn for a question"""
    temperature: float = 1.0
    """of the answers"""
    answer_tokens: int = 2048
    """most tokens of an answer"""
    min_scored: int = longreward.MIN_SCORED
    """answers with a reward that a pair needs"""
    judge_temperature: float = 0.01
    """of the judge"""
    judge_tokens: int = 512
    """most tokens of a verdict"""
    facts_tokens: int = 2048
    """most tokens of a list of facts, or of what a part of the document says"""
    chunk_tokens: int = 128
    """tokens of the chunks that facts are judged by"""
    part_tokens: int = 4096
    """tokens of the parts that completeness is judged by"""
    tokenizer: str = ""
    """model folder whose tokenizer counts them; without one they are estimated"""
    compat: Compat = "paper"
    """code: rewards are sums, and so on as above"""

    def __post_init__(self) -> None:
        at_least(self, 2, "min_scored")
        at_least(self, self.min_scored, "samples")
        at_least(self, 1, "answer_tokens", "judge_tokens", "facts_tokens", "chunk_tokens", "part_tokens")


async def draw_answers(row: Question, ask: Ask[Options]) -> Answers:
    """One call for each answer, unless they are given."""
    if row.responses is not None:
        return row.to(Answers)
    options = ask.options
    prompt = [user(question(row))]

    async def one(ask: Ask[Options], number: int) -> str:
        return await ask.text(
            "answer", prompt, draw=number, max_tokens=options.answer_tokens, temperature=options.temperature
        )

    draws = await ask.each(range(options.samples), lambda ask, number: attempt(one(ask, number)))
    responses = [draw.value for draw in draws if not draw.reason]
    if len(responses) < options.min_scored:
        reason = next(draw.reason for draw in draws if draw.reason)
        raise Drop(f"{len(responses)} of {options.samples} answers can be used; {reason}")
    return row.to(Answers, responses=responses)


async def judge(row: Answers, ask: Ask[Options]) -> Scored:
    """A call for each part of the document; for each answer three, and one for each of its facts."""
    case = await _case(row, ask)

    async def score(ask: Ask[Options], response: str) -> Score:
        work = (_helpfulness, _logicality, _faithfulness, _completeness)
        draws = await ask.each(work, lambda ask, rate: attempt(rate(ask, case, response)))
        rates = dict(zip(longreward.DIMENSIONS, (draw.value for draw in draws), strict=True))
        reasons = "; ".join(draw.reason for draw in draws if draw.reason)
        return Score(**rates, reward=longreward.reward(rates, compat=ask.options.compat), unscored=reasons)

    return row.to(Scored, scores=await ask.each(row.responses, score))


async def pair(row: Scored, ask: Ask[Options]) -> Pair:
    """No call: the best answer and the worst."""
    rewards = [score.reward for score in row.scores]
    scored = sum(reward is not None for reward in rewards)
    if scored < ask.options.min_scored:
        reason = next((score.unscored for score in row.scores if score.unscored), "")
        raise Unscored(f"{scored} of {len(rewards)} answers have a reward{f'; {reason}' if reason else ''}")
    places = longreward.preference_pair(rewards, min_scored=ask.options.min_scored, compat=ask.options.compat)
    if places is None:
        raise Drop("all answers have the same reward")
    best, worst = places
    return row.to(
        Pair,
        prompt=[user(question(row))],
        chosen=[assistant(row.responses[best])],
        rejected=[assistant(row.responses[worst])],
        chosen_reward=rewards[best],
        rejected_reward=rewards[worst],
        chosen_place=best,
        rejected_place=worst,
    )


STAGES = (draw_answers, judge, pair)


def question(row: Question) -> str:
    """What the model to be trained is asked."""
    return fill(ANSWER_PROMPT, document=row.context, query=row.query)


class _Case(NamedTuple):
    """What is the same for all answers to a question."""

    query: str
    pieces: list[str]
    points: str


async def _case(row: Answers, ask: Ask[Options]) -> _Case:
    options = ask.options
    tokenizer = chunks.tokenizer_in(options.tokenizer)
    spans = chunks.chunks(row.context, options.chunk_tokens, tokenizer=tokenizer)
    parts = chunks.chunks(row.context, options.part_tokens, tokenizer=tokenizer)

    async def points(ask: Ask[Options], part: chunks.Span) -> str:
        text = row.context[part.start : part.end]
        language = "Chinese" if language_of(text) == "zh" else "English"
        prompt = fill(_POINTS, part=text, query=row.query, language=language)
        settings = {"max_tokens": options.facts_tokens, "temperature": options.judge_temperature}
        said = await ask.text("points", [user(prompt)], role=JUDGE, **settings)
        if NOTHING.lower() in said.lower():
            return ""
        first, last = (round(100 * place / len(row.context)) for place in part)
        return f"[{first}% to {last}% of the document]\n{said}"

    found = await ask.each(parts, points)
    pieces = [row.context[span.start : span.end] for span in spans]
    return _Case(row.query, pieces, "\n\n".join(filter(None, found)))


async def _helpfulness(ask: Ask[Options], case: _Case, response: str) -> float:
    return await _rated(ask, "helpfulness", fill(_HELPFULNESS, query=case.query, response=response))


async def _logicality(ask: Ask[Options], case: _Case, response: str) -> float:
    return await _rated(ask, "logicality", fill(_LOGICALITY, query=case.query, response=response))


async def _completeness(ask: Ask[Options], case: _Case, response: str) -> float:
    if not case.points:
        raise Unscored("completeness: no part of the document bears on the question")
    prompt = fill(_COMPLETENESS, query=case.query, points=case.points, response=response)
    return await _rated(ask, "completeness", prompt)


async def _faithfulness(ask: Ask[Options], case: _Case, response: str) -> float:
    options = ask.options
    prompt = fill(_FACTS, query=case.query, response=response)
    facts = await _judged(ask, "facts", prompt, _facts, longreward.facts_form, max_tokens=options.facts_tokens)
    ranks = await retrieval.rank(ask, facts, case.pieces, count=NUM_EVIDENCE)

    async def support(ask: Ask[Options], number: int) -> float:
        evidence = "\n\n".join(case.pieces[place].strip() for place in sorted(ranks[number]))
        prompt = fill(_SUPPORT, evidence=evidence, fact=facts[number])

        def label(text: str) -> float:
            found = longreward.fact_support(text, compat=options.compat)
            if found is None:
                raise Malformed("there is no [[Fully supported]], [[Partially supported]] or [[No support]]")
            return found

        form = longreward.fact_support_form
        return await _judged(ask, "support", prompt, label, form, max_tokens=options.judge_tokens)

    found = longreward.faithfulness(await ask.each(range(len(facts)), support))
    assert found is not None, "there are facts"
    return found


async def _rated(ask: Ask[Options], stage: str, prompt: str) -> float:
    return await _judged(ask, stage, prompt, _rating, longreward.dimension_form, max_tokens=ask.options.judge_tokens)


async def _judged(
    ask: Ask[Options], stage: str, prompt: str, parse: Callable[[str], ValueT], form: Form, *, max_tokens: int
) -> ValueT:
    settings = {"max_tokens": max_tokens, "temperature": ask.options.judge_temperature}
    return await ask.parsed(stage, [user(prompt)], parse, form=form, role=JUDGE, **settings)


def _rating(text: str) -> float:
    found = longreward.dimension_rating(text)
    if found is None:
        raise Malformed("it does not end with a rating from [[0]] to [[10]]")
    return found


def _facts(text: str) -> list[str]:
    found = longreward.facts_of(text)
    if not found:
        raise Malformed("there are no facts in <statement> elements")
    return found


_POINTS = """\
Here is a part of a long document.

<part>
{part}
</part>

List what this part says that an answer to the question below should bring, each point on a line of its own, short and
exact, in {language}. Take nothing from elsewhere. If nothing here bears on the question, write only this:
No relevant information

Question: {query}"""
_HELPFULNESS = """\
A user asked a question about a long document, which you do not see, and got an answer. How helpful is the answer? Ask
whether it is to the point, serves what the user is after, covers all that was asked, and keeps to the form that was
wanted, if one was. Do not judge whether it is true.

What ratings mean:
0: does not answer, or speaks of something else
2: touches the question, yet the user must ask again
5: answers the main part; something asked for is missing, or much is beside the point
10: answers all that was asked, fully, to the point and in a fitting form

Question: {query}

Answer:
<answer>
{response}
</answer>

Write a short analysis, then a rating from 0 to 10 in double brackets at the end, in this form: Rating: [[5]]"""
_LOGICALITY = """\
A user asked a question about a long document, which you do not see, and got an answer. How sound is the answer in
itself? Look whether its parts agree with each other, its conclusions follow from what it says, and its calculations are
right. Bring no knowledge from elsewhere, and do not judge whether it is complete.

What ratings mean:
3: contradicts itself in its main point, or a wrong step or calculation decides its result
5: a contradiction, gap or slip of lesser weight; the result may still stand
10: consistent throughout, each step follows, all calculations are right

Question: {query}

Answer:
<answer>
{response}
</answer>

Write a short analysis, then a rating from 0 to 10 in double brackets at the end, in this form: Rating: [[5]]"""
_COMPLETENESS = """\
A user asked a question about a long document and got an answer. Below are the points of the document that bear on the
question, with the places where they stand. How completely does the answer bring those that matter? Points that say the
same count once; points that do not matter for the question do not count. What the answer says beyond them is of no
concern.

What ratings mean:
3: most points that matter are missing
7: the main points are there, some that matter are missing or stay vague
10: all points that matter are there, in the detail that the question wants

Question: {query}

Points:
<points>
{points}
</points>

Answer:
<answer>
{response}
</answer>

Write a short analysis, then a rating from 0 to 10 in double brackets at the end, in this form: Rating: [[5]]"""
_FACTS = """\
Below are a question about a document and an answer. List the facts that the answer states as being in the document:
sentence by sentence, each as a sentence that can be understood alone, with names in the place of pronouns. Leave out
what only introduces, connects or sums up, and what the answer concludes by itself. Write each in an element of its own:
<statement>fact</statement>

Question: {query}

Answer:
<answer>
{response}
</answer>"""
_SUPPORT = """\
Here are passages of a document, which need not follow each other.

<passages>
{evidence}
</passages>

Do they support the following statement? Compare it with them bit by bit, and use no knowledge from elsewhere. Then end
with one of:
[[Fully supported]] if all that it says is said there or follows from it
[[Partially supported]] if the greater part is, and something of lesser weight is not
[[No support]] if its main point is not there or is contradicted

Statement: {fact}"""
