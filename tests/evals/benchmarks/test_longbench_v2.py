"""LongBench v2: prompts as they are rendered, the ways to ask, truncation, cells."""

import asyncio
from pathlib import Path

import pytest

from godwit.base.errors import GodwitError
from godwit.evals.benchmarks import longbench_v2 as benchmark
from godwit.evals.harness.kit import Kit, truncate_middle
from godwit.evals.harness.outcomes import Outcome
from godwit.models.bundled import resolve
from tests.evals.fakes import FakeModel, answered, scored

ROW = benchmark.Row(
    _id="1",
    domain="Code Repository Understanding",
    difficulty="hard",
    length="short",
    question=" What is it? ",
    choice_A="one",
    choice_B="{{context}}",
    choice_C="three",
    choice_D="four",
    answer="B",
    context="\nA text that spells {{question}}.\n",
)
QUESTION = "Question: What is it?\nChoices:\n(A) one\n(B) {{context}}\n(C) three\n(D) four"
FORM = 'End with one sentence of this form: "The correct answer is (X)", where X is A, B, C or D.'


def test_the_direct_prompt_keeps_text_that_spells_a_slot() -> None:
    model = FakeModel(lambda prompt: "The correct answer is (B)")
    answered(benchmark, ROW, model)
    head = "Read this text, then answer a question about it.\n\n<text>\nA text that spells {{question}}.\n</text>"
    assert model.prompts == [f"{head}\n\n{QUESTION}\n\n{FORM}"]


def test_cot_asks_twice_and_the_second_prompt_has_no_document() -> None:
    model = FakeModel(lambda prompt: "because" if "step by step" in prompt else "The correct answer is (B)")
    reply = answered(benchmark, ROW, model, benchmark.Options(ask="cot"))
    first, second = model.prompts
    assert "A text that spells" in first and "A text that spells" not in second
    assert "The reader's thoughts:\nbecause\n" in second
    assert model.max_tokens == [1024, None]
    assert reply.text == "The correct answer is (B)"


def test_no_context_shows_none() -> None:
    model = FakeModel()
    answered(benchmark, ROW, model, benchmark.Options(ask="no_context"))
    assert "A text" not in model.prompts[0]


def test_rag_shows_the_best_chunks_in_the_texts_order() -> None:
    pytest.importorskip("bm25s")
    sentences = [f"Paragraph {n} speaks of {word}. " * 60 for n, word in enumerate(["ships", "owls", "mills", "owls"])]
    row = ROW.model_copy(update={"context": "".join(sentences), "question": "What of owls?", "choice_B": "owls"})
    kit = Kit(tokenizer=resolve("nano"))
    prompt = benchmark.render(row, benchmark.Options(ask="rag", chunks=2), kit)
    assert "[1] " in prompt and "[2] " in prompt and "[3] " not in prompt
    assert prompt.index("Paragraph 1") < prompt.index("Paragraph 3")
    with pytest.raises(GodwitError, match="give --tokenizer"):
        benchmark.render(row, benchmark.Options(ask="rag"), Kit())


def test_chunks_are_the_text() -> None:
    text = "ab" * 1500
    parts = benchmark.chunks(text, [(place, place + 1) for place in range(3000)])
    assert [len(part) for part in parts] == [512] * 5 + [440]
    assert "".join(parts) == text


def test_the_middle_of_the_whole_prompt_is_cut_by_tokens() -> None:
    spans = [(0, 2), (2, 3), (3, 6), (6, 7), (7, 9)]
    assert truncate_middle("aabcccdee", 5, spans) == "aabcccdee"
    assert truncate_middle("aabcccdee", 3, spans) == "aa" + "dee"  # floor(3/2) = 1 in front, 2 behind
    assert truncate_middle("aabcccdee", 1, spans) == "ee"
    assert truncate_middle("a—b", 2, [(0, 1), (1, 2), (1, 2), (2, 3)]) == "ab"
    assert truncate_middle("—b", 2, [(0, 1), (0, 1), (0, 1), (1, 2)]) == "b"  # a third of a character is none


def test_a_real_tokenizer_cuts_at_its_own_tokens() -> None:
    kit = Kit(tokenizer=resolve("nano"), max_input=40)
    text = "The quick brown fox — 敏捷的狐狸 — jumps. " * 30
    cut = kit.fit(text)
    assert text.startswith(cut[:10]) and text.endswith(cut[-10:]) and len(cut) < len(text)
    assert kit.num_tokens(cut) <= 41  # the seam may need a token more
    assert "\ufffd" not in cut
    with pytest.raises(GodwitError, match="no tokenizer tells"):
        Kit(max_input=40).fit(text)
    with pytest.raises(GodwitError, match="no tokenizer at"):
        Kit(max_input=4, tokenizer=Path("/nowhere")).fit(text)


def test_scores_and_cells_with_a_failed_and_an_empty_reply() -> None:
    outcomes = {
        "right": scored(benchmark, ROW, "The correct answer is (B)"),
        "wrong": scored(benchmark, ROW, "The correct answer is (A)"),
        "empty": scored(benchmark, ROW, " \n"),
        "failed": Outcome(failed="timeout"),
    }
    rows = dict.fromkeys(outcomes, ROW)
    paper = {f.group: f for f in benchmark.figures(outcomes, rows, benchmark.Options())}
    assert paper["overall"].value == paper["hard"].value == 25.0  # of four asked
    assert (paper["overall"].num_scored, paper["overall"].num_missing) == (4, 2)
    code = benchmark.figures(outcomes, rows, benchmark.Options(compat="code"))[0]
    assert code.value == 50.0  # of the two that were written
    credited = benchmark.figures(outcomes, rows, benchmark.Options(compensated=True))[0]
    assert credited.value == 100 * 1.5 / 4 and credited.low is None


def test_a_hostile_reply_is_scored_by_the_rule() -> None:
    reply = "__import__('os').abort() The correct answer is ((((" * 100_000 + "The correct answer is (B)"
    assert scored(benchmark, ROW, reply).values == {"accuracy": 1.0}
    assert asyncio.run(
        benchmark.score(ROW, benchmark.Reply("\x00" * 10_000_000), None, benchmark.Options(), Kit())
    ).values == {"accuracy": 0.0}
