"""Long answers written in steps: plan the sections with their lengths, then write one after the other (LongWriter).

Source: LongWriter (https://arxiv.org/abs/2408.07055): AgentWrite, and the filters of LongWriter-6k; the length-quality
filter is ModelScope's (S_l of at least 80 where the instruction names a length). Prompts are our own.

Differs from the released code: the plan is JSON of a schema, not lines to be split; a step is known by its whole
prompt, so two steps that read alike are two answers; an error or refusal of the endpoint never becomes content.

Does not: choose instructions that need long answers (give those), or score quality (`godwit eval longbench_write`).
"""

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from godwit.rewards.length import length_score
from godwit.synth.ask import Ask, assistant, fill, user
from godwit.synth.rows import Drop, Row
from godwit.text.words import count_words

VERSION = 1


class Task(Row):
    """An instruction. `length`: words it asks for, if it names a number."""

    instruction: str = Field(min_length=1)
    length: int | None = Field(default=None, gt=0)


class Section(BaseModel):
    """One step of a plan."""

    main_point: str = Field(min_length=1)
    words: int = Field(ge=1, le=20_000)


class Plan(BaseModel):
    """What the planner answers."""

    sections: list[Section] = Field(min_length=1)


class Planned(Task):
    """With a plan."""

    plan: list[Section]


class Written(Row):
    """A sample to train on. `length_score`: S_l in 0..100, None where no length was asked for."""

    messages: list[dict[str, str]]
    plan: list[Section]
    length: int | None
    words: int
    length_score: float | None


@dataclass(frozen=True)
class Options:
    """Options of agentwrite."""

    temperature: float = 1.0
    """of both steps"""
    max_sections: int = 50
    """longer plans have gone astray and are dropped"""
    plan_tokens: int = 4096
    """most tokens of a plan"""
    section_tokens: int = 4096
    """most tokens of a section"""
    min_words: int = 0
    """shorter texts are dropped; LongWriter-6k keeps those from 2000 on"""
    min_length_score: float = 0.0
    """where a length is asked for, texts with a lower S_l are dropped (80: ModelScope's filter)"""
    only_with_length: bool = False
    """drop instructions that name no length before anything is sent (also ModelScope's filter)"""
    prefix: Literal["whole", "none"] = "whole"
    """what a step sees of the text so far; with none the sections know nothing of each other and read worse"""


async def plan(row: Task, ask: Ask[Options]) -> Planned:
    """One call: the sections, in order."""
    options = ask.options
    if options.only_with_length and row.length is None:
        raise Drop("the instruction names no length")
    wanted = "" if row.length is None else f" The sections' words must add up to about {row.length}."
    prompt = fill(_PLAN, instruction=row.instruction, wanted=wanted)
    found = await ask.json(
        "plan", [user(prompt)], Plan, max_tokens=options.plan_tokens, temperature=options.temperature
    )
    if len(found.sections) > options.max_sections:
        raise Drop(f"{len(found.sections)} sections, more than {options.max_sections}")
    return row.to(Planned, plan=found.sections)


async def write(row: Planned, ask: Ask[Options]) -> Written:
    """One call a section, each with the whole plan and what is written so far; then the filters."""
    options = ask.options
    outline = outline_of(row.plan)
    written: list[str] = []
    for number, section in enumerate(row.plan, start=1):
        so_far = "\n\n".join(written) if options.prefix == "whole" else ""
        prompt = fill(
            _WRITE,
            instruction=row.instruction,
            outline=outline,
            so_far=so_far or "(nothing yet)",
            number=str(number),
            step=f"{section.main_point} (about {section.words} words)",
        )
        text = await ask.text(
            "write", [user(prompt)], max_tokens=options.section_tokens, temperature=options.temperature
        )
        written.append(without_marker(text))
    text = "\n\n".join(part for part in written if part)
    words = count_words(text)
    score = None if row.length is None else round(length_score(words, row.length), 4)
    if words < options.min_words:
        raise Drop(f"{words} words, fewer than {options.min_words}")
    if score is not None and score < options.min_length_score:
        raise Drop(f"length score {score:.1f} ({words} words for {row.length}), below {options.min_length_score:g}")
    messages = [user(row.instruction), assistant(text)]
    return row.to(Written, messages=messages, words=words, length_score=score)


STAGES = (plan, write)


def outline_of(sections: list[Section]) -> str:
    """A plan as lines."""
    lines = (f"{number}. {each.main_point} - {each.words} words" for number, each in enumerate(sections, start=1))
    return "\n".join(lines)


def without_marker(text: str) -> str:
    """A section without the label that models like to put before it ("Paragraph 3:", "**Section 2**", "第三段：")."""
    return _MARKER.sub("", text, count=1).strip()


_MARKER = re.compile(
    r"\A\s*[#*\s]*(?:(?:paragraph|section|part)\s+\d{1,3}|第[\d一二三四五六七八九十百]{1,4}[段节部]分?)\s*(?:[:：.\-–—]|\*\*|$)[*\s]*",
    flags=re.IGNORECASE | re.MULTILINE,
)
_PLAN = """\
Somebody wants the following text to be written:

<instruction>
{instruction}
</instruction>

Do not write it yet. Plan it: divide the whole text into sections that one writer can write one after the other, each of
200 to 1000 words. For each section say in one or two sentences what it must bring (people, facts, arguments, events,
whatever the text is made of), and how many words it shall have.{wanted} Together the sections must cover all that is
asked for, without repeating each other. Write the plan in the language of the instruction.

Answer with JSON in this form and nothing else:
{{"sections": [{{"main_point": "...", "words": 400}}, ...]}}"""
_WRITE = """\
You are writing a long text, section by section. This is what was asked for:

<instruction>
{instruction}
</instruction>

The plan of the whole:

<plan>
{outline}
</plan>

What is written so far:

<text>
{so_far}
</text>

Now write section {number}: {step}.

Go on smoothly from the text so far and repeat nothing of it. Write only this section, in the language of the
instruction; a short heading is fine where the kind of text has them. Do not round off the whole text unless this is the
last section: no summary, no outlook, no closing remark. Add no comment of your own."""
