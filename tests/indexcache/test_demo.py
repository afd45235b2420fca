"""The demo from end to end on a tiny model, its page, and going on after a stop."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

import godwit.base
from godwit.base.errors import GodwitError
from godwit.cli import main
from godwit.evals.retrieval import retrieval
from godwit.indexcache.calibration import Calibration
from godwit.indexcache.engine import DecoderEngine
from godwit.indexcache.quality import SEED, Quality, Score, SideQuality, num_steps, quality
from godwit.indexcache.quality_text import harmless
from godwit.indexcache.report import Story, gains, losses, render, typed
from godwit.indexcache.result import SearchResult
from godwit.models.families import config_from_hf
from godwit.models.init import build
from godwit.models.weights import load, save
from godwit.nn.share_plan import SharePlan
from godwit.text.bpe import train_bpe
from godwit.text.tokenizer import Tokenizer
from tests.indexcache.test_result import result
from tests.models.parity import CASES

WORDS = ["full", "--data", "texts/", "--seq-len", "64", "--rows", "2", "--test-rows", "1", "--samples", "0"]
WORDS += ["--rounds", "1", "--clock", "cpu", "--bench-length", "48", "--keep", "1/2", "--out", "out"]


class Balanced(HTMLParser):
    """Checks that tags are closed in order, and that nothing is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br", "path", "use", "html"):
            self.open.append(tag)
        for name, value in attributes:
            assert name not in ("src", "href") or str(value).startswith(("data:", "#")), (name, value)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "use", "html"):
            assert self.open.pop() == tag, tag


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model with a tokenizer, and texts."""
    monkeypatch.chdir(tmp_path)
    texts = [path.read_text() for path in sorted(Path(godwit.base.__path__[0]).glob("*.py"))]
    tokenizer = train_bpe(texts, 400)
    tokenizer.save("tok")
    model = build(config_from_hf(CASES["glm5"] | {"vocab_size": 400, "max_position_embeddings": 2048}), seed=1)
    save(model, model.config, "full", tokenizer_folder="tok")
    Path("texts").mkdir()
    for number, text in enumerate(texts):
        Path(f"texts/{number}.txt").write_text(text)
    return tmp_path


def test_from_end_to_end_and_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["indexcache", "demo", *WORDS]) == 0
    first = capsys.readouterr()
    for part in ("What you gain", "x prefill at 48 tokens", "x decoding", "50% less memory for index keys"):
        assert part in first.out, part
    for part in ("What you lose", "loss on text not searched on", "vllm serve out/shared", "report.html"):
        assert part in first.out, part
    plan = SearchResult.load("out/search").plan_at(0.5)
    assert load("out/shared").config.plan == plan and plan.num_full == 2
    page = Path("out/report.html").read_text()
    reader = Balanced()
    reader.feed(page)
    assert not reader.open
    for part in (
        "What you gain",
        "What you type",
        "Loss as layers give up",
        "Other ways to choose",
        "Overlap",
        "Times",
    ):
        assert part in page, part
    assert page.index("What you type") < page.index("<svg") and "data:image/png;base64," in page
    assert "godwit indexcache demo full --keep 1/2 --data texts/ --seq-len 64" in page and "--clock cpu" in page
    made = {path: path.stat().st_mtime_ns for path in folder.glob("out/**/*") if path.is_file()}
    with mock.patch("godwit.models.weights.load", side_effect=AssertionError("nothing is left to be run")):
        assert main(["indexcache", "demo", *WORDS]) == 0
    again = capsys.readouterr()
    assert again.out == first.out and again.err.count("there already") == 5
    assert {path.name for path, time in made.items() if path.stat().st_mtime_ns != time} <= {"report.html", "lock"}


def test_a_stopped_demo_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch("godwit.indexcache.quality.quality", side_effect=KeyboardInterrupt):
        assert main(["indexcache", "demo", *WORDS]) == 130
    assert not Path("out/quality.json").exists() and Path("out/export.json").exists()
    capsys.readouterr()
    assert main(["indexcache", "demo", *WORDS]) == 0
    said = capsys.readouterr().err
    assert said.count("there already") == 3 and "search: there already" in said
    assert main(["indexcache", "demo", *WORDS, "--seed", "1"]) == 2
    assert "out holds results of other settings (seed: 0 -> 1)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rows", "0"], "give at least 1, 1, 0"),
        (["--seq-len", "24"], "up to which sharing is invisible"),
        (["--seq-len", "4096"], "at most its 2048 positions"),
        (["--keep", "5"], "give a fraction of the layers"),
        (["--bench-length", "10"], "must lie above index_topk 24"),
        (["--clock", "sun"], "unknown clock 'sun'"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(words: list[str], message: str, folder: Path, capsys) -> None:
    assert main(["indexcache", "demo", *WORDS, *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not Path("out").exists()


def test_a_dense_model_is_told_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = build(config_from_hf(CASES["llama"]), seed=1)
    save(model, model.config, "dense")
    assert main(["indexcache", "demo", "dense"]) == 2
    assert "godwit convert dense" in capsys.readouterr().err


def test_quality_is_of_the_plans_asked_for(folder: Path) -> None:
    model = load("full").eval()
    rows = Calibration.of([torch.arange(200) % 400, (7 * torch.arange(150)) % 400]).rows
    plans = {"searched": SharePlan("FSSF")}
    found = quality(DecoderEngine(model), rows, plans=plans, tokenizer=Tokenizer.load("full"), num_samples=0)
    assert [each.side for each in found.sides] == ["dense", "DSA", "searched"] and found.num_tokens == 199 + 149
    for each, plan, dense in zip(found.sides, (None, None, "FSSF"), (True, False, False), strict=True):
        total = 0.0
        for row in rows:
            with torch.no_grad():
                hidden_TD = model.features(row.tokens_T, row.context, plan=plan, dense=dense).hidden_TD
            logits_TV = hidden_TD @ model.lm_head_weight.T.detach()
            total += float(F.cross_entropy(logits_TV[:-1], row.tokens_T[1:], reduction="sum"))
        assert each.loss == pytest.approx(total / 348, rel=1e-5)
    assert found.side("dense").loss != found.side("DSA").loss != found.side("searched").loss
    found.save("q")
    assert Quality.load("q") == found


def test_a_search_is_measured_all_along_its_path(folder: Path) -> None:
    model, tokenizer = load("full").eval(), Tokenizer.load("full")
    rows = Calibration.of([torch.arange(900) % 400]).rows
    path = [SharePlan(pattern) for pattern in ("FFFF", "FFSF", "FFSS", "FSSS")]
    steps: list[None] = []
    found = quality(
        DecoderEngine(model),
        rows,
        plans={"searched": path[2]},
        path=path,
        tokenizer=tokenizer,
        tasks=("multi_key",),
        num_samples=2,
        on_step=lambda: steps.append(None),
    )
    patterns = [plan.pattern for plan in path]
    assert len(steps) == num_steps(1, patterns, num_tasks=1, num_samples=2) == 5 * 3
    assert [each.pattern for each in found.path] == patterns and [each.num_full for each in found.path] == [4, 3, 2, 1]
    assert len({each.loss for each in found.path}) == 4
    assert found.path[0].loss == found.side("DSA").loss and found.path[2].loss == found.side("searched").loss
    for each in (*found.path, found.side("dense")):
        expected = retrieval(
            model,
            tokenizer,
            task="multi_key",
            num_tokens=900,
            num_samples=2,
            seed=SEED,
            plan=each.pattern or None,
            dense=not each.pattern,
        )
        assert each.scores["multi_key"].accuracy == expected.accuracy and expected.num_answers == 8


def test_plans_that_cannot_be_measured_are_refused(folder: Path) -> None:
    tokenizer, rows = Tokenizer.load("full"), Calibration.of(torch.arange(200)).rows
    shared = DecoderEngine(load("full", plan="FSSF"))
    with pytest.raises(GodwitError, match=r"wants an indexer in layers \[1\], and the model \(FSSF\) has none there"):
        quality(shared, rows, plans={"a": SharePlan("FFSS")}, tokenizer=tokenizer, num_samples=0)
    with pytest.raises(GodwitError, match="has 3 letters and the model 4 layers"):
        quality(shared, rows, plans={}, path=[SharePlan("FSS")], tokenizer=tokenizer, num_samples=0)


def test_harmless_ends_where_loss_or_retrieval_falls() -> None:
    def along(*figures: tuple[float, float]) -> Quality:
        sides = [
            SideQuality(
                side="",
                pattern="F" * (4 - place) + "S" * place,
                loss=loss,
                scores={"needle": Score(accuracy=right, standard_error=0.0, num_answers=8)},
            )
            for place, (loss, right) in enumerate(figures)
        ]
        base = replace(sides[0], side="DSA")
        return Quality(model="tiny", num_tokens=9, seq_len=9, sides=(base,), path=tuple(sides))

    fine = along((2.0, 0.9), (2.009, 0.9), (2.0, 0.881), (2.0, 0.879))
    assert fine.harmless == fine.path[2]
    assert "3 of 4" not in harmless(fine) and "2 of 4 indexers stay within 0.5% of loss" in harmless(fine)
    # What comes behind a plan that loses too much does not count.
    lost = along((2.0, 0.9), (2.02, 0.9), (2.0, 0.9))
    assert lost.harmless == lost.path[0] and "train the indexers that are left" in harmless(lost)
    assert harmless(replace(lost, path=())) == ""


def test_the_page_offers_the_plan_that_loses_next_to_nothing() -> None:
    search = result()
    sides = [
        SideQuality(side="", pattern=str(plan), loss=loss, scores={})
        for plan, loss in zip(search.path, (2.0, 2.001, 2.002, 2.3), strict=False)
    ]
    quality = Quality(
        model="tiny",
        num_tokens=9,
        seq_len=9,
        sides=tuple(replace(sides[0], side=name) for name in ("dense", "DSA", "searched")),
        path=tuple(sides),
    )
    story = Story(search=search, keep=3, quality=quality)
    last = typed(story)[-1]
    assert last.startswith(f"godwit indexcache export tiny --plan {search.path[2]} --out harmless")
    assert "keep 4 indexers" in last and last in render(story)


def test_a_page_of_a_search_alone_says_what_is_missing() -> None:
    search = result()
    story = Story(search=search, keep=3)
    page = render(story)
    assert "speed was not measured: godwit indexcache bench" in page
    assert gains(story)[0] == "50% less memory for index keys: 3 layers keep them, not 6"
    assert losses(story)[0] == "+25.00% loss on the calibration text: 2.5000 from 2.0000"
    assert losses(story)[1] == "the uniform plan with as many indexers: +50.00%"
    assert typed(story)[0] == "godwit indexcache export tiny --plan FFSFSS --out shared"
    reader = Balanced()
    reader.feed(page)
    assert not reader.open
