"""Long texts about pictures: instructions checked or written, texts in sections, lengths told back (LongWriter-V).

Source: LongWriter-V (https://arxiv.org/abs/2502.14834), the making of LongWriter-V-22k. Prompts are our own. What a row
has decides what is done with it:

* an instruction (their single pictures, from MMEvol): kept if it needs a long text and is about the pictures;
* no instruction (their groups of 2 or 4 pictures of one category): one is written that needs a long text;
* `kind: slides` (their decks of 2 to 30 pages): the script of a lecture is asked for.

Then Agent-V plans and writes with all pictures in each call, and a share of the instructions (theirs: 5,000 of 22,158)
is told the length that came out, in its own words: so that the length asked for is the length there is.

Does not: scale pictures (they train at 280x280; give them as they shall be sent), turn PDFs into pictures.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from godwit.synth.ask import Ask, fill, user
from godwit.synth.rows import Drop, Malformed, Row
from godwit.synth.sections import Section, plan_sections, write_sections
from godwit.text.forms import Room
from godwit.text.words import count_words

VERSION = 1
PICTURES = True
PICTURE_MARK = "<image>"
REHEARSAL: dict[str, object] = {"min_needed": 1}


class Pictures(Row):
    """Pictures in order: paths (from the input's folder) or addresses."""

    images: list[str] = Field(min_length=1, max_length=64)
    instruction: str = ""
    kind: Literal["pictures", "slides"] = "pictures"

    def files(self) -> list[str]:
        """The pictures."""
        return self.images


class Instructed(Pictures):
    """With an instruction that needs a long text."""


class Written(Instructed):
    """With the text."""

    plan: list[Section]
    text: str


class Sample(Row):
    """A sample to train on. `length`: words the instruction asks for since they were back-translated, else None.

    The user's content begins with one `<image>` for each of `images` (the form LLaMA-Factory reads).
    """

    messages: list[dict[str, str]]
    images: list[str]
    kind: str
    length: int | None
    words: int


class Fitness(BaseModel):
    """Of an instruction."""

    words_needed: int = Field(ge=0)
    about_the_pictures: bool


@dataclass(frozen=True)
class Options:
    """Options of longwriter_v."""

    temperature: float = 1.0
    """of writing"""
    min_needed: int = 1000
    """instructions that need fewer words are dropped"""
    asked_words: int = 2000
    """words that a text by an instruction written here must need"""
    told_share: float = 0.23
    """share of instructions that are told the length"""
    max_sections: int = 50
    """longer plans have gone astray and are dropped"""
    plan_tokens: int = 4096
    """most tokens of a plan"""
    section_tokens: int = 4096
    """most tokens of a section"""


async def instruct(row: Pictures, ask: Ask[Options]) -> Instructed:
    """One call, except for slides: the instruction checked or written."""
    pictures = [ask.picture(image) for image in row.images]
    if row.kind == "slides":
        return row.to(Instructed, instruction=row.instruction or _LECTURE)
    if row.instruction:
        prompt = fill(_CHECK, instruction=row.instruction)
        found = await ask.json("check", [user(prompt, pictures)], Fitness, max_tokens=512, temperature=0.0)
        if not found.about_the_pictures:
            raise Drop("the instruction is not about the pictures")
        if found.words_needed < ask.options.min_needed:
            raise Drop(f"needs {found.words_needed} words, fewer than {ask.options.min_needed}")
        return row.to(Instructed)
    prompt = fill(_INSTRUCT, words=str(ask.options.asked_words))
    text = await ask.text("instruct", [user(prompt, pictures)], max_tokens=1024, temperature=ask.options.temperature)
    return row.to(Instructed, instruction=text)


async def write(row: Instructed, ask: Ask[Options]) -> Written:
    """Agent-V: one call for the plan and one a section, all pictures in each."""
    options = ask.options
    pictures = [ask.picture(image) for image in row.images]
    plan = await plan_sections(
        ask,
        row.instruction,
        pictures=pictures,
        max_sections=options.max_sections,
        max_tokens=options.plan_tokens,
        temperature=options.temperature,
    )
    text = await write_sections(
        ask,
        row.instruction,
        plan,
        pictures=pictures,
        max_tokens=options.section_tokens,
        temperature=options.temperature,
    )
    return row.to(Written, plan=plan, text=text)


async def tell_length(row: Written, ask: Ask[Options]) -> Sample:
    """For a share of the rows one call, without pictures: the instruction with its text's length woven in."""
    words = count_words(row.text)
    length = words if words and ask.random("told").random() < ask.options.told_share else None
    instruction = row.instruction
    if length is not None:
        prompt = fill(_TELL, instruction=instruction, length=str(length))

        def names_length(text: str) -> str:
            if str(length) not in text:
                raise Malformed(f"the number {length} is not in it")
            return text

        def names_length_form(room: Room) -> str:
            return f"{room.text()} ?{length} ?{room.text()}"

        instruction = await ask.parsed(
            "tell_length", [user(prompt)], names_length, form=names_length_form, max_tokens=2048, temperature=1.0
        )
    asked = PICTURE_MARK * len(row.images) + instruction
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": row.text}]
    return row.to(Sample, messages=messages, length=length, words=words)


STAGES = (instruct, write, tell_length)

_LECTURE = (
    "These are the slides of a lecture. Write down word for word what the lecturer says, slide by slide and in detail, "
    "so that somebody who only hears it learns all that the slides hold."
)
_CHECK = """\
Somebody shows you the pictures above and says:

<instruction>
{instruction}
</instruction>

How many words does a good answer need, at least? And is the instruction about what these pictures show, so that it
could not be answered as well without them? Answer with JSON in this form and nothing else:
{{"words_needed": 1500, "about_the_pictures": true}}"""
_INSTRUCT = """\
Look at the pictures above. Invent an instruction that somebody could give with exactly these pictures: one that draws
on all of them, and whose answer is one coherent text of more than {words} words (a guide, an essay, a story, a
catalogue, a comparison, whatever suits them). Say what kind of text it shall be and for whom. Do not describe the
pictures in it. Answer with the instruction alone."""
_TELL = """\
An instruction reads:

<instruction>
{instruction}
Write {length} words in total.
</instruction>

Say the same in other words, as one natural request in the same language, with nothing left out or added. The number
{length} must stay in it, in digits. Answer with the new instruction alone."""
