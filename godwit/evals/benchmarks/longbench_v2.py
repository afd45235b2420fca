"""LongBench v2: four-choice questions on long contexts (arXiv 2412.15204).

Four ways to ask: `direct`; `cot`, which thinks in a first call with the document and answers in a second one without
it; `no_context`, the memorisation probe; `rag`, the best chunks of the document in its order. The wording is ours, the
answer sentence is the published one, because it is what the extraction rule reads.

Rows have the fields that README.md of THUDM/LongBench lists for the set (its `retrieved_context` is of another run and
left alone).

Retrieval here is BM25 where the paper has embeddings; chunks are of 512 tokens of the model's own tokenizer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from godwit.base.errors import GodwitError
from godwit.evals.harness.kit import Ask, Judge, Kit, Reply, fill, spans
from godwit.evals.harness.outcomes import Figure, Outcome
from godwit.evals.harness.published import Table
from godwit.evals.metrics.longbench_v2 import Answered, accuracy_cells, answer_form, extract_answer
from godwit.rewards import Compat
from godwit.text.bm25 import by_words

TITLE, DATA, FILE, ID = "LongBench v2", "hf:THUDM/LongBench-v2", "data.json", "id"
METRICS = ("accuracy",)
MAX_TOKENS, TEMPERATURE = 128, 0.1
COT_TOKENS = 1024
CHUNK_TOKENS = 512

_TEXT = "Read this text, then answer a question about it.\n\n<text>\n{{context}}\n</text>"
_QUESTION = """Question: {{question}}
Choices:
(A) {{a}}
(B) {{b}}
(C) {{c}}
(D) {{d}}"""
_FORM = 'End with one sentence of this form: "The correct answer is (X)", where X is A, B, C or D.'
PROMPTS = {
    "direct": f"{_TEXT}\n\n{_QUESTION}\n\n{_FORM}",
    "cot": f"{_TEXT}\n\n{_QUESTION}\n\nThink step by step:",
    "cot_answer": "A text, which is left out here, was read to answer a question about it.\n\n"
    f"{_QUESTION}\n\nThe reader's thoughts:\n{{{{thoughts}}}}\n\nChoose the single most likely answer. {_FORM}",
    "no_context": f"Answer this question as well as you can.\n\n{_QUESTION}\n\n{_FORM}",
    "rag": "Read these numbered pieces of a longer text, then answer a question about the text.\n\n"
    f"<pieces>\n{{{{context}}}}\n</pieces>\n\n{_QUESTION}\n\n{_FORM}",
}
JUDGE = None
REHEARSAL: dict[str, object] = {}


class Row(BaseModel):
    """One question, with the published field names."""

    id: str = Field(alias="_id")
    domain: str
    sub_domain: str = ""
    difficulty: Literal["easy", "hard"]
    length: Literal["short", "medium", "long"]
    question: str
    choice_A: str
    choice_B: str
    choice_C: str
    choice_D: str
    answer: Literal["A", "B", "C", "D"]
    context: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to ask, and how to count."""

    ask: Literal["direct", "cot", "no_context", "rag"] = "direct"
    """direct, cot (two calls), no_context, or rag"""
    chunks: int = 64
    """chunks that rag shows; the paper has 4 to 256"""
    compensated: bool = False
    """credit 0.25 for a question without an answer"""
    compat: Compat = "paper"
    """code: leave failed calls out of the denominator, as the released script does"""


async def answer(row: Row, ask: Ask, options: Options, kit: Kit) -> Reply:
    """One call, or two for cot."""
    if options.ask == "cot":
        thoughts = await ask(kit.fit(render(row, options, kit)), max_tokens=COT_TOKENS)
        final = fill(PROMPTS["cot_answer"], _question(row) | {"thoughts": thoughts.text.strip()})
        return await ask(kit.fit(final), form=answer_form)
    return await ask(kit.fit(render(row, options, kit)), form=answer_form)


def render(row: Row, options: Options, kit: Kit) -> str:
    """The prompt of a way to ask; of cot its first."""
    values = _question(row)
    if options.ask == "no_context":
        return fill(PROMPTS["no_context"], values)
    context = _pieces(row, options.chunks, kit) if options.ask == "rag" else row.context.strip()
    return fill(PROMPTS[options.ask], values | {"context": context})


longest_prompt = render
"""What must fit into the model; cot's first prompt is as long as the direct one."""


async def score(row: Row, reply: Reply, judge: Judge, options: Options, kit: Kit) -> Outcome:
    """Right or not; an empty reply is a failed call, as in the released code."""
    letter = extract_answer(reply.text)
    return Outcome(
        values={"accuracy": float(letter == row.answer)},
        groups=(row.difficulty, row.length, row.domain),
        details={"letter": letter, "answer": row.answer, "empty": not reply.text.strip(), "finish": reply.finish},
    )


def figures(outcomes: Mapping[str, Outcome], rows: Mapping[str, Row], options: Options) -> list[Figure]:
    """The published table's cells, in percent, over all questions that were asked."""
    answered = [
        Answered(
            answer=rows[name].answer,
            letter=outcome.details.get("letter"),
            difficulty=rows[name].difficulty,
            length=rows[name].length,
            domain=rows[name].domain,
            failed=bool(outcome.failed) or bool(outcome.details.get("empty")),
        )
        for name, outcome in outcomes.items()
    ]
    cells = accuracy_cells(answered, compensated=options.compensated, compat=options.compat)
    note = "no answer counts 0.25" if options.compensated else ""
    return [
        Figure.of(cell.name, "accuracy", cell.accuracy, cell.interval, cell.num_asked, cell.num_failed, note)
        for cell in cells
    ]


def _question(row: Row) -> dict[str, str]:
    choices = (row.choice_A, row.choice_B, row.choice_C, row.choice_D)
    return {"question": row.question.strip()} | {letter: text.strip() for letter, text in zip("abcd", choices)}


def _pieces(row: Row, count: int, kit: Kit) -> str:
    if kit.tokenizer is None:
        raise GodwitError("rag cuts the text by tokens; give --tokenizer FOLDER")
    pieces = chunks(row.context.strip(), spans(kit.tokenizer, row.context.strip()))
    query = "\n".join(_question(row).values())
    kept = sorted(by_words([query], pieces, count=count)[0])
    return "\n\n".join(f"[{number}] {pieces[place]}" for number, place in enumerate(kept, start=1))


def chunks(text: str, token_spans: Sequence[tuple[int, int]]) -> list[str]:
    """Pieces of 512 tokens that make up the text."""
    starts = [token_spans[place][0] for place in range(0, len(token_spans), CHUNK_TOKENS)]
    return [text[start:end] for start, end in zip([0, *starts[1:]], [*starts[1:], len(text)])]


PUBLISHED = Table(
    source="LongBench v2, arXiv 2412.15204, table 2 (overall; the second column with chain of thought)",
    columns=("overall", "overall, cot"),
    rows={
        "GLM-4-9B-Chat": (30.2, 30.8),
        "Llama-3.1-8B": (30.0, 30.4),
        "Llama-3.1-70B": (31.6, 36.2),
        "Llama-3.3-70B": (29.8, 36.2),
        "Qwen2.5-7B": (27.0, 29.8),
        "Qwen2.5-72B": (39.4, 38.8),
        "Mistral-Large-2411": (34.4, 39.6),
        "GLM-4-Plus": (44.3, 46.1),
        "GPT-4o-mini": (29.3, 32.4),
        "GPT-4o-2024-08-06": (50.1, 51.2),
        "GPT-4o-2024-11-20": (46.0, 51.4),
        "o1-mini": (37.8, 38.9),
        "o1-preview": (57.7, 56.2),
        "Claude-3.5-Sonnet-1022": (41.0, 46.7),
        "human experts": (53.7, None),
        "chance": (25.0, 25.0),
    },
    caution="All 503 questions; the paper's prompts, truncated at 120,000 tokens (200,000 for Claude). Its code leaves "
    "failed calls out of the denominator. Length buckets hold different tasks: compare models within one, not one "
    "model across them.",
)
