"""Long texts by writers who plan, write and refine, with all thoughts: SuperWriter's data for three-step training.

Source: SuperWriter (https://arxiv.org/abs/2506.04180), section 3 and its released code. Prompts are our own. An agent
is a call with a part to play:

plan    a thinker fills in four points; twice a commentator asks questions and a reviser works them in; an outliner
        divides it into at most 10 paragraphs and 8,000 words; a checker looks at that and a reviser mends it; the
        outline is extracted as JSON
write   for each paragraph a thinker, then a writer; they see the paragraph before (`seen="all"`: all before, as in the
        released code)
refine  for each paragraph a checker, who reads the whole as it is by now and makes 2 suggestions or more, or passes
        it; then an editor

From an instruction come up to three samples, in the form of `thoughts`: plan, write and refine. A sample longer than
32,768 tokens is dropped, and so is a refinement of which a checker passed a paragraph. `steps` is the whole record.

Does not: choose instructions that need long texts (give those). `superwriter_dpo` makes preference pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from godwit.synth import superwriter_prompts as prompts
from godwit.synth import thoughts
from godwit.synth.ask import Ask, assistant, fill, user
from godwit.synth.endpoint import estimate_tokens
from godwit.synth.parse import model_in
from godwit.synth.rows import Drop, Malformed, Row
from godwit.text.forms import Room
from godwit.text.words import count_words

VERSION = 1
ROUNDS = 2
LEAST_SUGGESTIONS = 2
Text = Annotated[str, Field(min_length=1)]


class Paragraph(BaseModel):
    """Of an outline."""

    content: Text
    word_count: int = Field(ge=1)


class Task(Row):
    """An instruction."""

    instruction: str = Field(min_length=1)


class AgentStep(BaseModel):
    """What one agent wrote, and for which step."""

    step: thoughts.Step
    agent: str
    kind: str
    content: str


class Planned(Task):
    """With a plan."""

    title: str
    outline: list[Paragraph]
    brainstorm: str
    plan_thoughts: list[str]
    steps: list[AgentStep]


class Written(Planned):
    """With a draft, and the thought before each paragraph."""

    draft: list[str]
    draft_thoughts: list[str]


class Refined(Written):
    """With the final text; what checkers said of each paragraph, and whether they passed it."""

    final: list[str]
    checks: list[str]
    passed: list[bool]


class Sample(Row):
    """A sample to train on: one step of one text. `steps` are those of the agents behind it, `words` of its answer."""

    instruction: str
    messages: list[dict[str, str]]
    step: thoughts.Step
    title: str
    words: int
    steps: list[AgentStep]


class Candidate(Sample):
    """Before it is looked at: `fault` says why it is not to be trained on."""

    fault: str


class Outline(BaseModel):
    """What is extracted."""

    title: str = ""
    paragraphs: list[Paragraph] = Field(min_length=1)


class Check(BaseModel):
    """What a checker of a paragraph answers."""

    passed: bool = False
    suggestions: list[Text] = []


@dataclass(frozen=True)
class Options:
    """Options of superwriter."""

    temperature: float = 0.6
    """of all agents"""
    agent_tokens: int = 16_384
    """most tokens of what an agent writes"""
    seen: Literal["last", "all"] = "last"
    """paragraphs before that are seen when one is written; all: as the released code does"""
    max_paragraphs: int = 10
    """of an outline"""
    max_words: int = 8000
    """of an outline"""
    sample_tokens: int = 32_768
    """longer samples are dropped"""


async def plan(row: Task, ask: Ask[Options]) -> Planned:
    """Nine calls: think, twice comment and revise, outline, check and revise, extract."""
    options = ask.options
    desk = _Desk(ask, "plan")
    brainstorm = first = await desk.says("thinker", "think", fill(prompts.THINK, instruction=row.instruction))
    comments = []
    for _ in range(ROUNDS):
        prompt = fill(prompts.COMMENT, instruction=row.instruction, brainstorm=brainstorm)
        comments.append(await desk.says("commentator", "comment", prompt))
        prompt = fill(prompts.REVISE, instruction=row.instruction, brainstorm=brainstorm, comment=comments[-1])
        brainstorm = await desk.says("reviser", "revise", prompt)
    limits = {"paragraphs": str(options.max_paragraphs), "words": str(options.max_words)}
    about = {"instruction": row.instruction, "brainstorm": brainstorm}
    draft = await desk.says("outliner", "outline", fill(prompts.OUTLINE, **about, **limits))
    check = await desk.says("checker", "check_outline", fill(prompts.CHECK_OUTLINE, **about, outline=draft, **limits))
    prompt = fill(prompts.REVISE_OUTLINE, **about, outline=draft, check=check, **limits)
    outline = await desk.says("reviser", "revise_outline", prompt)

    def extracted(text: str) -> Outline:
        found = model_in(text, Outline)
        words = sum(paragraph.word_count for paragraph in found.paragraphs)
        if len(found.paragraphs) > options.max_paragraphs or words > options.max_words:
            raise Malformed(
                f"{len(found.paragraphs)} paragraphs of {words} words; at most {options.max_paragraphs} of "
                f"{options.max_words} are allowed"
            )
        return found

    def form(room: Room) -> str:
        return outline_form(room, paragraphs=options.max_paragraphs, words=options.max_words)

    prompt = fill(prompts.EXTRACT, outline=outline)
    found = await ask.parsed("extract", [user(prompt)], extracted, form=form, **desk.settings)
    desk.note("extractor", "extract", found.model_dump_json())
    return row.to(
        Planned,
        title=found.title,
        outline=found.paragraphs,
        brainstorm=brainstorm,
        plan_thoughts=["\n\n".join([first, *comments]), "\n\n".join([draft, check])],
        steps=desk.steps,
    )


async def write(row: Planned, ask: Ask[Options]) -> Written:
    """Two calls a paragraph."""
    desk = _Desk(ask, "write")
    draft: list[str] = []
    notes: list[str] = []
    for number, paragraph in enumerate(row.outline, start=1):
        before = draft[-1:] if ask.options.seen == "last" else draft
        about = {
            "instruction": row.instruction,
            "brainstorm": row.brainstorm,
            "outline": outline_text(row.title, row.outline),
            "before": "\n\n".join(before) or "(nothing yet)",
            "number": str(number),
            "content": paragraph.content,
            "words": str(paragraph.word_count),
        }
        notes.append(await desk.says("thinker", "think_paragraph", fill(prompts.THINK_PARAGRAPH, **about)))
        prompt = fill(prompts.WRITE_PARAGRAPH, **about, thought=notes[-1])
        draft.append(await desk.says("writer", "write_paragraph", prompt, marked=True))
    return row.to(Written, draft=draft, draft_thoughts=notes, steps=[*row.steps, *desk.steps])


async def refine(row: Written, ask: Ask[Options]) -> Refined:
    """One call a paragraph to check it, and one to edit it unless it is passed."""
    desk = _Desk(ask, "refine")
    final = list(row.draft)
    checks: list[str] = []
    passed: list[bool] = []
    for place, paragraph in enumerate(row.draft):
        text, number = "\n\n".join(final), str(place + 1)
        prompt = fill(
            prompts.CHECK_PARAGRAPH, instruction=row.instruction, text=text, number=number, paragraph=paragraph
        )
        check = await ask.parsed("check_paragraph", [user(prompt)], check_of, form=check_form, **desk.settings)
        checks.append("\n".join(check.suggestions))
        passed.append(check.passed)
        desk.note("checker", "check_paragraph", check.model_dump_json())
        if not check.passed:
            about = {"instruction": row.instruction, "text": text, "number": number, "paragraph": paragraph}
            prompt = fill(prompts.EDIT, **about, suggestions="\n".join(f"* {each}" for each in check.suggestions))
            final[place] = await desk.says("editor", "edit_paragraph", prompt, marked=True)
    return row.to(Refined, final=final, checks=checks, passed=passed, steps=[*row.steps, *desk.steps])


async def samples(row: Refined, ask: Ask[Options]) -> list[Candidate]:
    """No call: the three steps as samples."""
    outline = outline_text(row.title, row.outline)
    fault = next((f"a checker passed paragraph {n}" for n, passed in enumerate(row.passed, start=1) if passed), "")
    made: dict[thoughts.Step, tuple[list[str], list[str], list[str]]] = {
        "plan": ([row.instruction], row.plan_thoughts, [row.brainstorm, outline]),
        "write": ([row.brainstorm, outline], row.draft_thoughts, row.draft),
        "refine": (row.draft, row.checks, row.final),
    }
    return [
        row.to(
            Candidate,
            messages=[user(thoughts.prompt(step, given)), assistant(thoughts.write(step, thinking, answers))],
            step=step,
            words=count_words("\n\n".join(answers)),
            steps=[each for each in row.steps if each.step == step],
            fault=fault if step == "refine" else "",
        )
        for step, (given, thinking, answers) in made.items()
    ]


async def keep(row: Candidate, ask: Ask[Options]) -> Sample:
    """No call: samples that are not to be trained on are left out."""
    if row.fault:
        raise Drop(row.fault)
    size = estimate_tokens(row.messages)
    if size > ask.options.sample_tokens:
        raise Drop(f"about {size:,} tokens, more than {ask.options.sample_tokens:,}")
    return row.to(Sample)


STAGES = (plan, write, refine, samples, keep)


def outline_text(title: str, outline: Sequence[Paragraph]) -> str:
    """An outline as models read it."""
    lines = [f"{number}. {each.content} ({each.word_count} words)" for number, each in enumerate(outline, start=1)]
    return "\n".join([title, *lines] if title else lines)


class _Desk:
    """Where agents of a step are asked, and what they wrote is recorded."""

    def __init__(self, ask: Ask[Options], step: thoughts.Step):
        self.ask = ask
        self.step: thoughts.Step = step
        self.steps: list[AgentStep] = []
        self.settings: dict[str, Any] = {
            "max_tokens": ask.options.agent_tokens,
            "temperature": ask.options.temperature,
        }

    async def says(self, agent: str, kind: str, prompt: str, *, marked: bool = False) -> str:
        """One call; `marked` for text that stands between double-dollar marks."""
        if marked:
            text = await self.ask.parsed(kind, [user(prompt)], between_marks, form=marked_form, **self.settings)
        else:
            text = await self.ask.text(kind, [user(prompt)], **self.settings)
        self.note(agent, kind, text)
        return text

    def note(self, agent: str, kind: str, content: str) -> None:
        """Record."""
        self.steps.append(AgentStep(step=self.step, agent=agent, kind=kind, content=content))


def between_marks(text: str) -> str:
    """What stands between the first `$$` and the last (a formula in the text may have some of its own).

    Raises:
        Malformed: there are no two, or nothing between them.
    """
    _, mark, rest = text.partition("$$")
    inside, end, _ = rest.rpartition("$$")
    if not mark or not end or not inside.strip():
        raise Malformed("the text does not stand between $$ and $$")
    return inside.strip()


def marked_form(room: Room) -> str:
    """Of answers that `between_marks` takes."""
    return rf"\$\$\n?{room.text()}\$\$"


def outline_form(room: Room, *, paragraphs: int, words: int) -> str:
    """Of an `Outline` of at most so many paragraphs, none of more than `words` words."""
    number = room.whole_number(1, words)
    one = rf'\{{"content": {room.string()}, "word_count": {number}\}}'
    return rf'\{{"title": {room.string()}, "paragraphs": \[{room.several(one, most=paragraphs, between=", ")}\]\}}'


def check_form(room: Room) -> str:
    """Of answers that `check_of` takes."""
    suggestions = room.several(room.string(), least=LEAST_SUGGESTIONS, between=", ")
    return rf'\{{"passed": (?:true, "suggestions": \[\]|false, "suggestions": \[{suggestions}\])\}}'


def check_of(text: str) -> Check:
    """What a checker of a paragraph answers.

    Raises:
        Malformed: it is not that, or there are too few suggestions.
    """
    found = model_in(text, Check)
    if not found.passed and len(found.suggestions) < LEAST_SUGGESTIONS:
        raise Malformed(f"suggestions: there must be at least {LEAST_SUGGESTIONS}, or passed must be true")
    return found
