"""Questions about long documents, with answers: where LongReward and LongCite start from.

Source: LongAlign's self-instruct, as LongReward (https://arxiv.org/abs/2410.21252) uses it, and step 1 of LongCite's
CoF (https://arxiv.org/abs/2409.02897). Prompts are our own.

The document's language is told by its letters; a Chinese one gets Chinese questions, an English one a Chinese or an
English one with even chances. The kind of question is drawn evenly of four; of five proposed questions one is drawn.
LongCite's released code never asks for integration (its branch is overwritten by multi-hop, so that its real mix is
0/50/25/25); `mix="code"` draws so.

Does not: check the answer (`longreward` scores answers, `longcite_cof` finds what supports them).
"""

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from godwit.synth.ask import Ask, fill, user
from godwit.synth.rows import Malformed, Row
from godwit.text.forms import Room

VERSION = 1
NUM_QUESTIONS = 5
KINDS = ("integration", "multi-hop", "general", "information-seeking")
_MIXES = {"even": (1, 1, 1, 1), "code": (0, 2, 1, 1)}


class Document(Row):
    """A long text."""

    context: str = Field(min_length=1)


class Asked(Document):
    """With one question about it."""

    language: str
    kind: str
    query: str


class Answered(Asked):
    """With the answer."""

    answer: str


@dataclass(frozen=True)
class Options:
    """Options of selfinstruct_longqa."""

    temperature: float = 1.0
    """of both steps"""
    language: Literal["auto", "en", "zh"] = "auto"
    """of the questions; auto: as in LongCite"""
    mix: Literal["even", "code"] = "even"
    """how kinds of question are drawn; code: as LongCite's released code does"""
    question_tokens: int = 1024
    """most tokens of the five questions"""
    answer_tokens: int = 2048
    """most tokens of an answer"""


async def ask_question(row: Document, ask: Ask[Options]) -> Asked:
    """One call: five questions of one kind, of which one is drawn."""
    chance = ask.random("question")
    language = ask.options.language
    if language == "auto":
        language = "zh" if language_of(row.context) == "zh" else chance.choice(("zh", "en"))
    (kind,) = chance.choices(KINDS, weights=_MIXES[ask.options.mix])
    prompt = fill(_QUESTIONS, document=row.context, kind=_KIND_WORDS[kind], language=_LANGUAGE_WORDS[language])
    questions = await ask.parsed(
        "question",
        [user(prompt)],
        numbered,
        form=numbered_form,
        max_tokens=ask.options.question_tokens,
        temperature=ask.options.temperature,
    )
    return row.to(Asked, language=language, kind=kind, query=chance.choice(questions))


async def answer(row: Asked, ask: Ask[Options]) -> Answered:
    """One call: the answer, out of the document alone."""
    text = await ask.text(
        "answer",
        [user(fill(ANSWER_PROMPT, document=row.context, query=row.query))],
        max_tokens=ask.options.answer_tokens,
        temperature=ask.options.temperature,
    )
    return row.to(Answered, answer=text)


STAGES = (ask_question, answer)


def language_of(text: str) -> Literal["en", "zh"]:
    """English if there are more than four Latin letters for each Chinese character (LongCite's rule)."""
    latin = len(re.findall(r"[A-Za-z]", text))
    chinese = len(re.findall(r"[\u4e00-\u9fff]", text))
    return "en" if latin > 4 * chinese else "zh"


def numbered(text: str) -> list[str]:
    """The questions of lines such as "2: ..." or "2. ..."; at least one.

    Raises:
        Malformed: there is none.
    """
    found = re.findall(r"^[^\S\n]*\d{1,2}\s*[:.：、)][^\S\n]*(\S.*)$", text, flags=re.MULTILINE)
    if not found:
        raise Malformed("there are no lines that begin with a number and a colon")
    return [question.strip() for question in found]


def numbered_form(room: Room) -> str:
    """Of answers that `numbered` takes: the lines that were asked for, or as many of them as the room has."""
    count = min(NUM_QUESTIONS, room.items or NUM_QUESTIONS)
    return "\n".join(f"{number}: {room.line()}" for number in range(1, count + 1))


_LANGUAGE_WORDS = {"en": "English", "zh": "Chinese"}
_KIND_WORDS = {
    "integration": "can only be answered by bringing together or summing up what several distant parts of it say",
    "multi-hop": "need several steps: one fact of it leads to the next, and only the last one is the answer",
    "general": "a reader of it would naturally have, about its content as a whole or any part of it",
    "information-seeking": "look for particular information that somebody would come to it for",
}
_QUESTIONS = """\
Here is a document.

<document>
{document}
</document>

Think of five different questions about this document that {kind}. Each must be answerable from the document alone, and
must make sense to somebody who has not got it before their eyes. Write them in {language}, without answers, one on a
line, in this form:
1: first question
2: second question
3: third question
4: fourth question
5: fifth question"""
ANSWER_PROMPT = """\
Here is a document.

<document>
{document}
</document>

Answer the following question from what the document says, completely and in the language of the question. If it does
not say, say so.

{query}"""
