"""Corrected pages as preference pairs for each beginning of a text: IterDPO of LongWriter-V.

Source: LongWriter-V (https://arxiv.org/abs/2502.14834), section on IterDPO. For a script of N pages, original and
revised, and each i from 1 to N: the first i pages as revised are preferred to the same pages as they were, given the
first i pictures; the loss is the sum over i. There people revised 72 scripts into 1,477 pairs.

Rows with `revised` need no endpoint's word. For others a model corrects page after page, each with the pictures so far
and the revised pages before it, and names what was wrong (the five kinds of errors of the paper). A beginning in which
nothing was changed teaches nothing and is left out with that reason (`keep_equal` keeps it, as the paper's sum does).
"""

from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, Field, model_validator

from godwit.synth.ask import Ask, assistant, fill, user
from godwit.synth.parse import model_in
from godwit.synth.rows import Drop, Malformed, Row
from godwit.text.forms import Room, one_of

VERSION = 1
PICTURES = True
PICTURE_MARK = "<image>"
ErrorKind = Literal["factual", "missing_information", "irrelevance", "incoherence", "repetition"]


class Script(Row):
    """A text in pages, one for each picture; `revised` if somebody has corrected them."""

    images: list[str] = Field(min_length=1)
    instruction: str = Field(min_length=1)
    pages: list[str] = Field(min_length=1)
    revised: list[str] | None = None

    def files(self) -> list[str]:
        """The pictures."""
        return self.images

    @model_validator(mode="after")
    def _page_by_page(self) -> "Script":
        for name, parts in (("pages", self.pages), ("revised", self.revised)):
            if parts is not None and len(parts) != len(self.images):
                raise ValueError(f"{len(self.images)} images and {len(parts)} {name}; there must be one for each image")
        return self


class Revised(Script):
    """With corrections. `errors`: kinds of errors page by page; empty lists where people revised."""

    errors: list[list[str]]


class Pair(Row):
    """The first `page` of `num_pages` pages, corrected and not; prompts begin with an `<image>` for each image."""

    images: list[str]
    prompt: list[dict[str, str]]
    chosen: list[dict[str, str]]
    rejected: list[dict[str, str]]
    page: int
    num_pages: int
    errors: list[str]


class Correction(BaseModel):
    """What the reviser answers; `text` may be left out if nothing is wrong."""

    errors: list[ErrorKind]
    text: str = ""


@dataclass(frozen=True)
class Options:
    """Options of iterdpo."""

    temperature: float = 0.7
    """of the corrections"""
    page_tokens: int = 2048
    """most tokens of a corrected page"""
    keep_equal: bool = False
    """keep pairs whose two sides are the same"""


async def revise(row: Script, ask: Ask[Options]) -> Revised:
    """One call a page, unless the row is revised."""
    if row.revised is not None:
        return row.to(Revised, errors=[[] for _ in row.pages])
    pictures = [ask.picture(image) for image in row.images]
    revised: list[str] = []
    errors: list[list[str]] = []
    for number, page in enumerate(row.pages, start=1):
        prompt = fill(
            _REVISE,
            instruction=row.instruction,
            number=str(number),
            before="\n\n".join(revised) or "(this is the first page)",
            page=page,
        )
        messages = [user(prompt, pictures[:number])]
        found = await ask.parsed(
            "revise",
            messages,
            correction,
            form=correction_form,
            max_tokens=ask.options.page_tokens,
            temperature=ask.options.temperature,
        )
        revised.append(found.text if found.errors else page)
        errors.append(list(dict.fromkeys(found.errors)))
    return row.to(Revised, revised=revised, errors=errors)


async def pair(row: Revised, ask: Ask[Options]) -> list[Pair]:
    """No call: one pair for each beginning."""
    assert row.revised is not None
    pairs = []
    for number in range(1, len(row.pages) + 1):
        images = row.images[:number]
        pairs.append(
            row.to(
                Pair,
                images=images,
                prompt=[user(PICTURE_MARK * number + row.instruction)],
                chosen=[assistant("\n\n".join(row.revised[:number]))],
                rejected=[assistant("\n\n".join(row.pages[:number]))],
                page=number,
                num_pages=len(row.pages),
                errors=sorted({kind for kinds in row.errors[:number] for kind in kinds}),
            )
        )
    return pairs


async def differ(row: Pair, ask: Ask[Options]) -> Pair:
    """No call: a pair whose sides are equal is left out."""
    if row.chosen == row.rejected and not ask.options.keep_equal:
        raise Drop(f"nothing was changed up to page {row.page}")
    return row


STAGES = (revise, pair, differ)


def correction(text: str) -> Correction:
    """What the reviser answers.

    Raises:
        Malformed: it is not that, or there are errors and no corrected page.
    """
    found = model_in(text, Correction)
    if found.errors and not found.text.strip():
        raise Malformed("text: the corrected page is missing")
    return found


def correction_form(room: Room) -> str:
    """Of answers that `correction` takes."""
    kinds = get_args(ErrorKind)
    errors = room.several(f'"{one_of(kinds)}"', most=len(kinds), between=", ")
    return rf'\{{"errors": (?:\[\], "text": ""|\[{errors}\], "text": {room.string()})\}}'


_REVISE = """\
A script was written for a series of pictures, one page for each. The task was:

<instruction>
{instruction}
</instruction>

You see the pictures up to number {number}. The script up to there, already corrected:

<before>
{before}
</before>

Page {number} as it was written:

<page>
{page}
</page>

Find what is wrong with this page: "factual" (it contradicts its picture or itself), "missing_information" (the picture
holds something that matters and is not said), "irrelevance" (it strays), "incoherence" (it does not follow from what
comes before), "repetition" (it says again what was said). Mend only that, keep all that is good, and keep its length
and tone.

Answer with JSON in this form and nothing else; with an empty list and an empty text if nothing is wrong:
{{"errors": ["factual"], "text": "the whole page, corrected"}}"""
