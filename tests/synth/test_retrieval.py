import asyncio
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from godwit.base.journal import Journal
from godwit.models.bundled import resolve
from godwit.synth.ask import Ask
from godwit.synth.chunks import chunks
from godwit.synth.endpoint import Endpoint
from godwit.synth.exchange import Exchange
from godwit.synth.line import Limits
from godwit.synth.pipeline import NoOptions
from godwit.synth.retrieval import rank
from godwit.text.bm25 import by_words, words
from godwit.text.tokenizer import Tokenizer
from tests.synth import endpoint as scripted

PASSAGES = ["the old stone bridge", "a steel bridge upstream", "武夷山的茶农每年四月采茶", "nothing of interest"]


def test_words_find_their_passages_in_both_languages() -> None:
    assert by_words(["steel bridges or a bridge"], PASSAGES, count=2) == [[1, 0]]
    assert by_words(["茶农什么时候采茶？"], PASSAGES, count=1) == [[2]]
    assert "茶农" in words("武夷山的茶农") and words("Don't PANIC") == ["don", "t", "panic"]


def test_ties_and_unknown_words_go_to_the_earlier_passage() -> None:
    assert by_words(["zebra"], PASSAGES, count=3) == [[0, 1, 2]]
    assert by_words(["a b"], ["x", "b a", "a b"], count=3) == [[1, 2, 0]]
    assert by_words(["x"], ["", "!?"], count=5) == [[0, 1]]


def embed(served: scripted.Endpoint, path: Path, queries: Sequence[str], passages: Sequence[str]) -> list[list[int]]:
    endpoints = {role: Endpoint(url=served.url, model=f"{role}-1", key=scripted.KEY) for role in ("writer", "embedder")}

    async def both_rows() -> list[list[int]]:
        with Journal(path) as journal:
            async with Exchange(endpoints, store=journal, limits=Limits()) as exchange:
                asks = [
                    Ask(exchange, options=NoOptions(), row_id=name, folder=path.parent, seed=0) for name in ("a", "b")
                ]
                first, second = await asyncio.gather(*(rank(ask, queries, passages, count=2) for ask in asks))
                assert first == second
                return first

    return asyncio.run(both_rows())


def test_an_embedding_endpoint_ranks_by_cosine_and_sees_each_text_once(tmp_path: Path) -> None:
    passages = [f"{letter * 5} {letter}" for letter in scripted.LETTERS] * 6  # more than one request's worth
    with scripted.serving(lambda _: "x") as served:
        found = embed(served, tmp_path / "j", ["c", "zz"], passages)
        assert found == [[2, 28], [25, 51]]
        assert set(served.embedded.values()) == {1} and len(served.embedded) == 28
        assert embed(served, tmp_path / "j", ["c", "zz"], passages) == found  # a later run: from the journal
        assert set(served.embedded.values()) == {1}


@given(st.text(max_size=400), st.integers(1, 40))
def test_chunks_make_up_the_text(text: str, size: int) -> None:
    spans = chunks(text, size)
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(end > start for start, end in spans)


def test_chunks_by_a_tokenizer_have_its_tokens() -> None:
    tokenizer = Tokenizer.load(resolve("nano"))
    text = "def main():\n    return 'the old stone bridge'\n" * 20 + "武夷山的茶农" * 5
    spans = chunks(text, 16, tokenizer=tokenizer)
    assert "".join(text[start:end] for start, end in spans) == text
    _, offsets = tokenizer.encode_with_offsets(text)
    assert len(spans) <= -(-len(offsets) // 16)
    for span in (each for each in spans[:-1] if text[each.start : each.end].isascii()):
        assert sum(span.start <= start and end <= span.end for start, end in offsets) == 16


def test_chunks_without_a_tokenizer_end_at_blanks_and_hold_about_so_many() -> None:
    text = "word " * 1000
    spans = chunks(text, 128)
    assert 8 <= len(spans) <= 12 and all(text[start:end].strip().startswith("word") for start, end in spans)
    assert len(chunks("武" * 1000, 128)) in range(5, 9) and len(chunks("x" * 100_000, 128)) > 100
