"""Long answers written in steps: plan the sections with their lengths, then write one after the other (LongWriter).

Source: LongWriter (https://arxiv.org/abs/2408.07055): AgentWrite, and the filters of LongWriter-6k; the length-quality
filter is ModelScope's (S_l of at least 80 where the instruction names a length). Prompts are our own.

Differs from the released code: the plan is JSON of a schema, not lines to be split; a step is known by its whole
prompt, so two steps that read alike are two answers; an error or refusal of the endpoint never becomes content.

Does not: choose instructions that need long answers (give those), or score quality (`godwit eval longbench_write`).
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from godwit.rewards.length import length_score
from godwit.synth.ask import Ask, assistant, user
from godwit.synth.rows import Drop, Row
from godwit.synth.sections import Section, plan_sections, write_sections
from godwit.text.words import count_words

VERSION = 1


class Task(Row):
    """An instruction. `length`: words it asks for, if it names a number."""

    instruction: str = Field(min_length=1)
    length: int | None = Field(default=None, gt=0)


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
    sections = await plan_sections(
        ask,
        row.instruction,
        length=row.length,
        max_sections=options.max_sections,
        max_tokens=options.plan_tokens,
        temperature=options.temperature,
    )
    return row.to(Planned, plan=sections)


async def write(row: Planned, ask: Ask[Options]) -> Written:
    """One call a section; then the filters."""
    options = ask.options
    text = await write_sections(
        ask,
        row.instruction,
        row.plan,
        see_text_so_far=options.prefix == "whole",
        max_tokens=options.section_tokens,
        temperature=options.temperature,
    )
    words = count_words(text)
    score = None if row.length is None else round(length_score(words, row.length), 4)
    if words < options.min_words:
        raise Drop(f"{words} words, fewer than {options.min_words}")
    if score is not None and score < options.min_length_score:
        raise Drop(f"length score {score:.1f} ({words} words for {row.length}), below {options.min_length_score:g}")
    messages = [user(row.instruction), assistant(text)]
    return row.to(Written, messages=messages, words=words, length_score=score)


STAGES = (plan, write)
