import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from godwit.base.journal import Answer, Entry, Journal
from godwit.synth import pipeline
from godwit.synth.card import Made, card
from godwit.synth.output import Spool
from godwit.synth.pages import PER_PAGE, write_pages
from godwit.synth.walk import Outcome

EVIL = "</pre><script>alert(1)</script><img src=x onerror=alert(1)> ```` {% raw %} | a | b |\n# not a heading"


@contextmanager
def made(folder: Path, count: int, text: str = "text") -> Iterator[Made]:
    found = pipeline.load("selfinstruct_longqa")
    with Spool(folder) as spool:
        for number in range(count):
            name = f"{text[:20]}{number:04d}"
            record = {"id": name, "context": text, "query": text, "answer": text, "provenance": {"seed": text}}
            spool.add(Outcome(name, (), True, record))
            gone = {"id": name, "status": "dropped", "stage": text[:40], "reason": text, "provenance": {}}
            spool.add(Outcome(name, (0,), False, gone))
        yield Made(found, spool, 2 * count, "data.jsonl", {"pipeline": text}, [])


def test_everything_is_escaped_and_nothing_is_fetched_or_run(tmp_path: Path) -> None:
    with made(tmp_path, 3, EVIL) as each:
        page = write_pages(each, tmp_path).read_text(encoding="utf-8")
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page) and "default-src 'none'" in page


def test_big_sets_have_further_pages_and_a_limit(tmp_path: Path) -> None:
    with made(tmp_path, 400) as each:
        first = write_pages(each, tmp_path, most=3 * PER_PAGE).read_text(encoding="utf-8")
    pages = sorted((tmp_path / "samples").iterdir())
    assert [page.name for page in pages] == ["0002.html", "0003.html"]
    assert "150 of 400" in first and first.count("<details") == PER_PAGE + 3 * PER_PAGE
    links = re.findall(r'href="([^"]+)"', first)
    assert all((tmp_path / link).exists() for link in links) and len(links) == 2
    third = pages[1].read_text(encoding="utf-8")
    links = re.findall(r'href="([^"]+)"', third)
    assert all((tmp_path / "samples" / link).resolve().exists() for link in links) and len(links) == 2
    shown = re.findall(r"<b>(text\d+)</b>", first.split("Rows given up")[0] + pages[0].read_text() + third)
    assert shown == sorted(shown) and len(set(shown)) == 150
    with made(tmp_path, 3) as each:
        write_pages(each, tmp_path)
    assert not (tmp_path / "samples").exists()


def test_a_row_is_told_by_its_first_text_in_any_script(tmp_path: Path) -> None:
    text = "请写一篇关于茶文化历史的长文章"
    with made(tmp_path, 1, text) as each:
        page = write_pages(each, tmp_path).read_text(encoding="utf-8")
    assert f"<summary><b>{text[:20]}0000</b>{text}</summary>" in page


def test_a_long_text_is_cut_with_its_size(tmp_path: Path) -> None:
    with made(tmp_path, 1, "x" * 10_000_000) as each:
        assert write_pages(each, tmp_path).stat().st_size < 1_000_000
        assert len(card(each)) < 20_000_000


def test_the_card_is_yaml_then_markdown_that_text_cannot_break(tmp_path: Path) -> None:
    with made(tmp_path, 2, EVIL) as each:
        text = card(each)
    head = text.split("---\n")[1]
    assert "tags: [synthetic, godwit, selfinstruct_longqa]" in head
    assert text.count("\n# ") == 1 and text.count("````") == 2
    for line in text.splitlines():
        if line.startswith("| dropped"):
            assert line.count(" | ") == 3 and line.endswith(" 2 |")


def test_lines_come_back_sorted_by_row(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        for name, path in (("b", (1,)), ("a", (10,)), ("a", (9,)), ("b", (0,))):
            spool.add(Outcome(name, path, True, {"id": f"{name}{path}"}))
        assert [json.loads(line)["id"] for line in spool.lines(kept=True)] == ["a(9,)", "a(10,)", "b(0,)", "b(1,)"]
    assert not any(tmp_path.iterdir())


def test_what_the_model_said_in_a_row_that_was_given_up(tmp_path: Path) -> None:
    answers = {
        f"k{number}": ("plan" if number > 6 else "check", "length" if number == 8 else "stop") for number in range(9)
    }
    with Journal(tmp_path / "journal.sqlite") as journal, Spool(tmp_path) as spool:
        for key, (stage, finish) in answers.items():
            answer = Answer(f"<b>{key} says</b>", "", finish, 1, 1, 0.0, 1)
            asyncio.run(journal.put(Entry(key, "writer", stage, "m", {"messages": []}, answer)))
        vector = Answer("AAAA", "", "embedding", 1, 0, 0.0, 1)
        asyncio.run(journal.put(Entry("v", "embedder", "plan", "m", {}, vector)))
        given = {"status": "dropped", "stage": "plan", "reason": "plan: there is no JSON object in it"}
        spool.add(Outcome("a", (), False, {"id": "a", **given, "provenance": {"prompt_hashes": [*answers, "v"]}}))
        found = pipeline.load("selfinstruct_longqa")
        page = write_pages(Made(found, spool, 1, "data.jsonl", {}, []), tmp_path, journal).read_text(encoding="utf-8")
    said = re.findall(r"&lt;b&gt;(k\d) says", page)
    assert said == ["k7", "k8", "k0", "k1"] and "AAAA" not in page and "<b>k" not in page
    assert "the model said (plan, cut at its token limit)" in page and "no row passed all checks" in page
    assert "<details" in page and page.count('<details class="gone" open>') == 1
