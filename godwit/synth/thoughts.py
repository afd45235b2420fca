"""Texts with their thoughts: the form in which SuperWriter's three steps are trained, sampled and read.

    plan            <thought>..</thought> <answer>brainstorm</answer> <thought>..</thought> <answer>outline</answer>
    write, refine   for each paragraph a bridging sentence, a thought, and the paragraph as answer
    and <end> behind the last; it is the stop string.

Source: SuperWriter (https://arxiv.org/abs/2506.04180), section 3.2; prompts and the names of the tags are our own. The
tag is not `<think>`: that belongs to a model's own reasoning, which endpoints and chat templates take out of answers,
and these thoughts are many and part of the text.

A step is asked for what the step before it wrote: `write` sees brainstorm and outline, `refine` the draft alone.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from godwit.synth.ask import fill
from godwit.text.forms import Room
from godwit.text.replies import elements, without_elements
from godwit.text.words import count_words

Step = Literal["plan", "write", "refine"]
END = "<end>"
_BRIDGES: dict[Step, str] = {
    "plan": "",
    "write": "I come to paragraph {number} of {total}.\n",
    "refine": "I look again at paragraph {number} of {total}.\n",
}


class Thinking(NamedTuple):
    """What stands in the elements of a text."""

    thoughts: list[str]
    answers: list[str]


def read(text: str) -> Thinking:
    """Thoughts and answers of `text` up to `<end>`, trimmed; tags inside a thought are part of it."""
    text = text.partition(END)[0]
    thoughts = [thought.strip() for thought in elements(text, "thought")]
    return Thinking(thoughts, [answer.strip() for answer in elements(without_elements(text, "thought"), "answer")])


def write(step: Step, thoughts: Sequence[str], answers: Sequence[str]) -> str:
    """The text of a step. Tags of ours that stand in its parts are broken, so that it is read as it was written."""
    total = len(answers)
    blocks = []
    for number, (thought, answer) in enumerate(zip(thoughts, answers, strict=True), start=1):
        inside = f"<thought>\n{_broken(thought)}\n</thought>\n<answer>\n{_broken(answer)}\n</answer>"
        blocks.append(f"{_BRIDGES[step].format(number=number, total=total)}{inside}")
    return "\n\n".join(blocks) + f"\n\n{END}"


def prompt(step: Step, given: Sequence[str]) -> str:
    """What a step is asked.

    Args:
        given: for plan the instruction; for write brainstorm and outline; for refine the paragraphs of the draft.
    """
    if step == "plan":
        (instruction,) = given
        return fill(_PLAN, instruction=instruction)
    if step == "write":
        brainstorm, outline = given
        return fill(_WRITE, brainstorm=brainstorm, outline=outline)
    return fill(_REFINE, draft="\n\n".join(given))


def fault(
    step: Step, text: str, *, words: tuple[int, int] | None = None, paragraphs: tuple[int, int] | None = None
) -> str:
    """Why `text` is no valid result of `step`, "" if it is one.

    Args:
        words: there must be more than the first and fewer than the second; None for any number.
        paragraphs: least and most answers of write and refine (a plan has two); None for one and more.
    """
    found = read(text)
    count = count_words(text)
    if words is not None and not words[0] < count < words[1]:
        return f"{count} words, not between {words[0]} and {words[1]}"
    thoughts, answers = len(found.thoughts), len(found.answers)
    if not answers or not all(found.answers):
        return "there is no answer" if not answers else "an answer is empty"
    if step == "plan":
        return (
            "" if answers == 2 and thoughts in (1, 2) else f"{thoughts} thoughts and {answers} answers, not 1-2 and 2"
        )
    if thoughts != answers:
        return f"{thoughts} thoughts and {answers} answers"
    lowest, highest = paragraphs or (1, answers)
    return "" if lowest <= answers <= highest else f"{answers} paragraphs, not {lowest} to {highest}"


def form(step: Step, room: Room, *, paragraphs: tuple[int, int] | None = None) -> str:
    """Of texts in which `fault` finds nothing, their number of words aside; `<end>` may stand behind them.

    Args:
        paragraphs: as in `fault`.
    """
    text = rf"\n?{room.inside()}"
    one = rf"<thought>{text}</thought>\n?<answer>{text}</answer>"
    if step == "plan":
        return rf"{one}\n*{one}\n*(?:{END})?"
    lowest, highest = paragraphs or (1, None)
    blocks = room.several(rf"(?:{room.inside()})?{one}", least=lowest, most=highest, between=r"\n*")
    return rf"{blocks}\n*(?:{END})?"


def _broken(text: str) -> str:
    for tag in ("thought", "answer"):
        text = text.replace(f"<{tag}>", f"< {tag}>").replace(f"</{tag}>", f"</ {tag}>")
    return text.replace(END, "< end>").strip()


_PLAN = """\
Plan the text that is asked for below, as an experienced writer would, before a word of it is written. First think, in
<thought></thought>: what it is for, its key points and their order, the people and the course of events if there are
any, its form. Give the result as <answer></answer>. Then think how it divides into paragraphs, and give as a second
<answer></answer> the outline: a title, and for each paragraph what it brings and how many words it has. End with <end>.

{instruction}"""
_WRITE = """\
Write the text that is planned below, paragraph by paragraph. Before each, think in <thought></thought> what it is to
do, how it joins what comes before, its details and its tone; then give it as <answer></answer>. End with <end>.

<brainstorm>
{brainstorm}
</brainstorm>

<outline>
{outline}
</outline>"""
_REFINE = """\
Refine the text below, paragraph by paragraph, with the whole in mind. For each, think in <thought></thought> what could
be better (logic, completeness, how it holds together with the rest), then give it anew as <answer></answer>. End with
<end>.

<draft>
{draft}
</draft>"""
