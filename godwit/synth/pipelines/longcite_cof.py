"""Answers about long documents in which each statement cites the sentences that support it: LongCite's CoF.

Source: LongCite (https://arxiv.org/abs/2409.02897), section 3 and its released code. Prompts are our own. Four stages:

1. `ask_and_answer`: a question about the document and its answer (as `selfinstruct_longqa`, whose rows may be given).
2. `cite_chunks`: the document in chunks of 128 tokens; each of the n sentences of the answer retrieves the best
   min(10, ceil(40 / n)); one call wraps the answer, word for word, into statements that cite chunks (at most 5 each).
3. `cite_sentences`: each cited chunk is shown with the one before and behind it, its sentences numbered from 0; one
   call a statement extracts the supporting spans. They are clipped, reversed ones ignored, numbered as in the document;
   the first 3 stay. A span across a gap between passages becomes one for each: what was not shown is not cited.
4. `keep`: at least 20 % of the statements must cite (`filter="code"`: one of them, and 20 % where there are 5 or more;
   of fewer than 5 one is 20 % anyway, so that the two rules keep the same answers).

Differs from the released code: chunks are spans of the document itself, so there is no search for what decoded tokens
came from; chunk citations are checked and repaired; questions of integration are asked (`mix="code"`: never).

Does not: judge whether what is cited supports (`godwit eval longbench_cite`).
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, model_validator

from godwit.rewards import Compat
from godwit.rewards.citations import (
    MAX_SPANS,
    Span,
    Statement,
    parse_spans,
    span_form,
    split_statements,
    write_statement,
)
from godwit.synth import chunks, retrieval
from godwit.synth.ask import Ask, assistant, fill, user
from godwit.synth.pipeline import at_least
from godwit.synth.pipelines import selfinstruct_longqa
from godwit.synth.pipelines.selfinstruct_longqa import Answered, Document, answer, ask_question, language_of
from godwit.synth.rows import Drop, Malformed, Row
from godwit.text.forms import Room, literal, whole_number
from godwit.text.sentences import Sentence, Splitter, sentence_texts, split_sentences, splitter_id
from godwit.text.sentences import numbered as with_marks

VERSION = 1
RETRIEVES = True
MOST_PER_SENTENCE, MOST_IN_ALL = 10, 40
MOST_SNIPPETS = 5
LEAST_OF, LEAST_STATEMENTS = 5, 5
NOTHING = "No relevant information"


class Source(Document):
    """A long text; with a question, or a question and its answer, if there are."""

    query: str = ""
    answer: str = ""

    @model_validator(mode="after")
    def _answer_to_what(self) -> "Source":
        if self.answer and not self.query:
            raise ValueError("there is an answer and no query")
        return self


class Coarse(BaseModel):
    """A statement, and the characters of the document in and around the chunks that it cites."""

    text: str
    windows: list[chunks.Span]


class ByChunk(Answered):
    """With the answer in statements."""

    statements: list[Coarse]


class BySentence(Answered):
    """With sentence citations."""

    statements: list[Statement]
    splitter: str


class Cited(Row):
    """A sample to train on, in LongCite's format; `splitter` tells how the document was cut into sentences."""

    query: str
    messages: list[dict[str, str]]
    answer: str
    language: str
    kind: str
    splitter: str
    num_statements: int
    num_cited: int


@dataclass(frozen=True)
class Options(selfinstruct_longqa.Options):
    """Options of longcite_cof."""

    splitter: Splitter = "punkt-trained"
    """of sentences; punkt: untrained, as CoF's scripts have it"""
    chunk_tokens: int = 128
    """tokens of a chunk"""
    tokenizer: str = ""
    """model folder whose tokenizer counts them; without one they are estimated"""
    filter: Compat = "paper"
    """which of the two rules of stage 4"""
    verbatim: bool = True
    """the statements must be the answer, white space aside; else the row is dropped"""
    cite_tokens: int = 4096
    """most tokens of the answer with chunk citations"""
    span_tokens: int = 128
    """most tokens of the spans of a statement"""

    def __post_init__(self) -> None:
        at_least(self, 1, "chunk_tokens", "cite_tokens", "span_tokens")


async def ask_and_answer(row: Source, ask: Ask[Options]) -> Answered:
    """Two calls, one, or none: question and answer."""
    if re.search(r"<C\d+>|</?(statement|cite)>", row.context):
        raise Drop("the document has marks of the citation format in it")
    if row.query:
        asked = row.to(selfinstruct_longqa.Asked, language=language_of(row.query), kind="given")
    else:
        asked = await ask_question(row, ask)
    return asked.to(Answered, answer=row.answer) if row.answer else await answer(asked, ask)


async def cite_chunks(row: Answered, ask: Ask[Options]) -> ByChunk:
    """One call: statements with numbers of chunks, out of those that the answer's sentences retrieve."""
    options = ask.options
    pieces = chunks.chunks(row.context, options.chunk_tokens, tokenizer=chunks.tokenizer_in(options.tokenizer))
    texts = [row.context[piece.start : piece.end] for piece in pieces]
    spans = split_sentences(row.answer, splitter=options.splitter)
    sentences = [row.answer[start:end] for start, end in spans]
    ranks = await retrieval.rank(ask, sentences, texts, count=num_retrieved(len(sentences)))
    chosen = distinct(itertools.chain.from_iterable(ranks), texts)
    snippets = "\n".join(f"[{number}] {texts[place].strip()}" for number, place in enumerate(chosen, start=1))
    prompt = fill(_CHUNKS, snippets=snippets, query=row.query, answer=row.answer)

    def statements(text: str) -> list[tuple[str, list[int]]]:
        return parse_coarse(text, len(chosen), answer=row.answer if options.verbatim else None)

    found = await ask.parsed(
        "cite_chunks",
        [user(prompt)],
        statements,
        form=lambda room: coarse_form(room, sentence_texts(row.answer, spans), len(chosen)),
        max_tokens=options.cite_tokens,
        temperature=options.temperature,
    )
    coarse = [
        Coarse(text=text, windows=windows([chosen[number - 1] for number in numbers], pieces))
        for text, numbers in found
    ]
    return row.to(ByChunk, statements=coarse)


async def cite_sentences(row: ByChunk, ask: Ask[Options]) -> BySentence:
    """One call for each statement that cites: the spans of sentences that support it."""
    options = ask.options
    sentences = split_sentences(row.context, splitter=options.splitter)
    texts = sentence_texts(row.context, sentences)

    async def extract(ask: Ask[Options], coarse: Coarse) -> Statement:
        passages = shown_sentences(coarse.windows, sentences)
        if not passages:
            return Statement(coarse.text)
        prompt = fill(_SENTENCES, passage=passage_text(passages, texts), statement=coarse.text.strip())
        count = sum(map(len, passages))
        found = await ask.parsed(
            "cite_sentences",
            [user(prompt)],
            lambda text: local_spans(text, count),
            form=lambda room: local_form(room, count),
            max_tokens=options.span_tokens,
            temperature=options.temperature,
        )
        return Statement(coarse.text, tuple(to_global(found, passages)))

    statements = await ask.each(row.statements, extract)
    return row.to(BySentence, statements=statements, splitter=splitter_id(options.splitter))


async def keep(row: BySentence, ask: Ask[Options]) -> Cited:
    """No call: the filter, then the sample."""
    cited = sum(bool(statement.spans) for statement in row.statements)
    if not enough_cited(cited, len(row.statements), rule=ask.options.filter):
        raise Drop(f"{cited} of {len(row.statements)} statements cite")
    sentences = split_sentences(row.context, splitter=ask.options.splitter)
    prompt = fill(_TASK, document=with_marks(row.context, sentences), query=row.query)
    said = "".join(map(write_statement, row.statements))
    return row.to(Cited, messages=[user(prompt), assistant(said)], num_statements=len(row.statements), num_cited=cited)


STAGES = (ask_and_answer, cite_chunks, cite_sentences, keep)


def num_retrieved(num_sentences: int) -> int:
    """Chunks that each sentence of an answer retrieves."""
    return min(MOST_PER_SENTENCE, -(-MOST_IN_ALL // max(num_sentences, 1)))


def distinct(places: Iterable[int], texts: Sequence[str]) -> list[int]:
    """`places` in order of position; of chunks that read alike the first."""
    seen: dict[str, int] = {}
    for place in sorted(set(places)):
        seen.setdefault(texts[place], place)
    return list(seen.values())


def parse_coarse(text: str, num_snippets: int, *, answer: str | None) -> list[tuple[str, list[int]]]:
    """Statements and the snippets [1], [2], ... that each cites: the first 5 different ones that there are.

    Args:
        answer: what the statements must add up to, white space aside; None for anything.

    Raises:
        Malformed: no statements, or another text.
    """
    parts = [(part, cites) for part, cites in split_statements(text) if part.strip()]
    if "<statement>" not in text or not parts:
        raise Malformed("there is no <statement> element")
    if answer is not None and _squeezed("".join(part for part, _ in parts)) != _squeezed(answer):
        raise Malformed("the text in the <statement> elements is not the answer, word for word and complete")
    found = []
    for part, cites in parts:
        numbers = (int(digits) for digits in re.findall(r"\[([0-9]{1,6})\]", cites))
        found.append((part, list(dict.fromkeys(n for n in numbers if 1 <= n <= num_snippets))[:MOST_SNIPPETS]))
    return found


def coarse_form(room: Room, sentences: Sequence[str], num_snippets: int) -> str:
    """Of what `parse_coarse` takes: the answer as it is, which the model parts into statements between its sentences.

    Args:
        sentences: of the answer, with the white space behind each.
    """
    number = rf"\[{whole_number(1, num_snippets)}\]" if num_snippets else ""
    cite = f"<cite>{room.several(number, least=0, most=MOST_SNIPPETS) if number else ''}</cite></statement>"
    said = [sentence for sentence in sentences if sentence.strip()] or [""]
    form = f"<statement>{literal(said[0].strip())}"
    for before, sentence in itertools.pairwise(said):
        blank = literal(before[len(before.rstrip()) :])
        form += rf"(?:{cite}\n<statement>|{blank}){literal(sentence.strip())}"
    return form + cite


def windows(places: Iterable[int], pieces: Sequence[chunks.Span]) -> list[chunks.Span]:
    """Characters of the chunks at `places`, each with the chunk before and behind; what meets is one."""
    merged: list[list[int]] = []
    for place in sorted(set(places)):
        first, last = max(place - 1, 0), min(place + 1, len(pieces) - 1)
        if merged and first <= merged[-1][1] + 1:
            merged[-1][1] = last
        else:
            merged.append([first, last])
    return [chunks.Span(pieces[first].start, pieces[last].end) for first, last in merged]


def shown_sentences(spans: Iterable[chunks.Span], sentences: Sequence[Sentence]) -> list[list[int]]:
    """For each passage the numbers, in the document, of the sentences that touch it; none is in two passages."""
    passages: list[list[int]] = []
    for start, end in spans:
        touched = [n for n, sentence in enumerate(sentences) if sentence.start < end and sentence.end > start]
        if passages and touched and touched[0] <= passages[-1][-1] + 1:
            passages[-1] += [n for n in touched if n > passages[-1][-1]]
        elif touched:
            passages.append(touched)
    return passages


def passage_text(passages: Sequence[Sequence[int]], texts: Sequence[str]) -> str:
    """The sentences as they are shown: numbered from 0 through all passages, blank lines between these."""
    count = itertools.count()
    return "\n\n".join("".join(f"<C{next(count)}>{texts[n]}" for n in passage).rstrip() for passage in passages)


def local_spans(text: str, count: int) -> list[Span]:
    """Spans `[s-e]` of a reply about `count` sentences, clipped, reversed ones and ones beyond the end ignored.

    Raises:
        Malformed: neither a span nor the sentence that there is nothing.
    """
    found = parse_spans(text, count, max_spans=None, join=False)
    if not found and NOTHING.lower() not in text.lower():
        raise Malformed(f"there are no spans of sentences such as [0-1], and it is not {NOTHING!r} either")
    return found


def local_form(room: Room, count: int) -> str:
    """Of what `local_spans` takes."""
    spans = room.several(span_form(count), most=MAX_SPANS)
    return spans if room.least else f"{spans}|{literal(NOTHING)}"


def to_global(spans: Iterable[Span], passages: Sequence[Sequence[int]]) -> list[Span]:
    """Local spans in the document's numbers; one across passages is cut at each gap. The first 3 different ones."""
    shown = [(number, n) for number, passage in enumerate(passages) for n in passage]
    found: dict[Span, None] = {}
    for first, last in spans:
        for _, inside in itertools.groupby(shown[first : last + 1], key=lambda pair: pair[0]):
            numbers = [n for _, n in inside]
            found[Span(numbers[0], numbers[-1])] = None
    return list(found)[:MAX_SPANS]


def enough_cited(cited: int, total: int, *, rule: Literal["paper", "code"] = "paper") -> bool:
    """Whether an answer is kept, with `cited` of `total` statements citing."""
    one_in_five = total > 0 and LEAST_OF * cited >= total
    if rule == "code":
        return cited > 0 and (one_in_five or total < LEAST_STATEMENTS)
    return one_in_five


def _squeezed(text: str) -> str:
    return "".join(text.split())


_CHUNKS = """\
Below are numbered snippets of a document, a question about it and the answer to the question. Show for each part of
the answer which snippets it comes from.

Repeat the answer word for word and in full, and wrap it into statements: a statement is a sentence or a few that belong
together and come from the same snippets. Write each as <statement>text<cite>[1][4]</cite></statement>, with the numbers
of the snippets that support it, the most important ones first and no more than five. A statement that needs no support
(an introduction, a transition, a conclusion drawn from what was said) has an empty <cite></cite>. Change, add and leave
out nothing.

An example. Snippets:
[1] The mill was sold in 1902 to the Brothers Aalto, who put in
[2] turbines and lit the village by them. Bread was baked there until the flood.
[3] The weather station on the hill has been kept since 1955.
Question: What became of the mill?
Answer: This is what is known. The Aalto brothers bought it in 1902 and made electricity with it. A flood ended its use.
What you write:
<statement>This is what is known.<cite></cite></statement>
<statement>The Aalto brothers bought it in 1902 and made electricity with it.<cite>[1][2]</cite></statement>
<statement>A flood ended its use.<cite>[2]</cite></statement>

Now the snippets:
{snippets}

Question: {query}

Answer: {answer}

What you write:"""
_SENTENCES = """\
A passage whose sentences are numbered (<C0>, <C1> and so on stand before them) and a statement follow. Which sentences
support the statement? Write the spans of their numbers, first and last included, as [first-last]: only what is needed,
the most important span first, no more than three. If nothing in it bears on the statement, write: {{nothing}}.

Passage: <C0>The mill stands on the Tarn. <C1>It was sold in 1902. <C2>The buyers were the Brothers Aalto.
Statement: The Aalto brothers bought the mill in 1902.
Spans: [1-2]

Passage: <C0>Bread was baked until the flood. <C1>Fish were smoked. <C2>The flood of 1931 took the oven.
Statement: Since 1931 no bread has been baked there.
Spans: [0-0][2-2]

Passage: <C0>The weather station is on the hill. <C1>It has been kept since 1955.
Statement: The mill burnt down twice.
Spans: {{nothing}}

Passage: {passage}
Statement: {statement}
Spans:""".replace("{{nothing}}", NOTHING)
_TASK = """\
Answer the question from the document below, whose sentences are numbered: <C0>, <C1> and so on stand before them.
Write the answer as statements of the form <statement>text<cite>[first-last]</cite></statement>. A span [first-last]
names the sentences, both ends included, that support the text; there may be up to three spans. A statement that needs
no support has an empty <cite></cite>. Answer in the language of the question.

[Document begins]
{document}
[Document ends]

{query}"""
