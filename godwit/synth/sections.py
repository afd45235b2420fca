"""Writing a long text in steps, as `agentwrite` and `longwriter_v` do: a plan of sections, then one call for each.

Source: AgentWrite of LongWriter (https://arxiv.org/abs/2408.07055) and its form with pictures in LongWriter-V
(https://arxiv.org/abs/2502.14834), where every call sees all pictures. Prompts are our own.
"""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from godwit.synth.ask import Ask, fill, user
from godwit.synth.rows import Drop


class Section(BaseModel):
    """One step of a plan."""

    main_point: str = Field(min_length=1)
    words: int = Field(ge=1, le=20_000)


class Plan(BaseModel):
    """What the planner answers."""

    sections: list[Section] = Field(min_length=1)


async def plan_sections(
    ask: Ask[Any],
    instruction: str,
    *,
    length: int | None = None,
    pictures: Sequence[str] = (),
    max_sections: int,
    max_tokens: int,
    temperature: float,
) -> list[Section]:
    """One call. A plan of more than `max_sections` has gone astray and drops the row."""
    wanted = "" if length is None else f" The sections' words must add up to about {length}."
    prompt = fill(_PLAN, instruction=instruction, wanted=wanted, shown=_SHOWN if pictures else "")
    found = await ask.json("plan", [user(prompt, pictures)], Plan, max_tokens=max_tokens, temperature=temperature)
    if len(found.sections) > max_sections:
        raise Drop(f"{len(found.sections)} sections, more than {max_sections}")
    return found.sections


async def write_sections(
    ask: Ask[Any],
    instruction: str,
    plan: Sequence[Section],
    *,
    pictures: Sequence[str] = (),
    see_text_so_far: bool = True,
    max_tokens: int,
    temperature: float,
) -> str:
    """One call a section, each with the whole plan; the sections joined by blank lines."""
    outline = "\n".join(
        f"{number}. {each.main_point} - {each.words} words" for number, each in enumerate(plan, start=1)
    )
    written: list[str] = []
    for number, section in enumerate(plan, start=1):
        prompt = fill(
            _WRITE,
            instruction=instruction,
            outline=outline,
            so_far=("\n\n".join(written) if see_text_so_far else "") or "(nothing yet)",
            number=str(number),
            step=f"{section.main_point} (about {section.words} words)",
            shown=_SHOWN if pictures else "",
        )
        text = await ask.text("write", [user(prompt, pictures)], max_tokens=max_tokens, temperature=temperature)
        written.append(without_marker(text))
    return "\n\n".join(part for part in written if part)


def without_marker(text: str) -> str:
    """A section without the label that models like to put before it ("Paragraph 3:", "**Section 2**", "第三段：")."""
    return _MARKER.sub("", text, count=1).strip()


_MARKER = re.compile(
    r"\A\s*[#*\s]*(?:(?:paragraph|section|part)\s+\d{1,3}|第[\d一二三四五六七八九十百]{1,4}[段节部]分?)"
    r"\s*(?:[:：.\-–—]|\*\*|$)[*\s]*",
    flags=re.IGNORECASE | re.MULTILINE,
)
_SHOWN = " The pictures above belong to it, in that order."
_PLAN = """\
Somebody wants the following text to be written:{shown}

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
You are writing a long text, section by section. This is what was asked for:{shown}

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
