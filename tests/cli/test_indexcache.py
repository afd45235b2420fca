"""`godwit indexcache`: its commands, and mistakes as one line."""

import json
import random
from pathlib import Path

import pytest

from godwit.cli import main
from godwit.cli.indexcache._options import parse_bytes
from godwit.cli.verbs.indexcache import COMMANDS
from godwit.indexcache.quality import Quality
from godwit.indexcache.result import SearchResult
from godwit.models.weights import save
from godwit.text.bpe import train_bpe
from tests.indexcache.tiny import model

WORDS = ("loss", "token", "layer", "expert", "router", "step", "batch", "weight", "norm", "head", "mask", "value")
TEXTS = ["--data", "texts/", "--seq-len", "64", "--rows", "2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts and a tiny sparse model that has a tokenizer of them."""
    folder = tmp_path_factory.mktemp("indexcache")
    draw = random.Random(0)
    (folder / "texts").mkdir()
    texts = [" ".join(draw.choice(WORDS) + str(draw.randrange(9)) for _ in range(200)) for _ in range(12)]
    for number, text in enumerate(texts):
        (folder / "texts" / f"{number}.txt").write_text(text)
    sparse = model(vocab_size=512, num_hidden_layers=4)
    save(sparse, sparse.config, folder / "model")
    train_bpe(texts, 512).save(folder / "model")
    return folder


def test_a_search_from_text_to_table_and_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    words = ["indexcache", "search", "model", "--keep", "1/4", *TEXTS]
    assert main(words) == 0
    shown = capsys.readouterr().out
    result = SearchResult.load("runs/indexcache-model")
    assert len(result.order) == 3 and result.num_tokens == 128 and result.model == "model"
    for part in (
        "model: 4 layers, each query keeps 8 positions",
        f"with all 4 indexers: {result.full_loss:.4f}",
        str(result.plan_at(2)),
        "    2  uniform ",
        "    2  similarity ",
        "    1  random ",
        f"work: {result.counters.layer_evaluations} layer evaluations",
        "indexcache export model --search runs/indexcache-model --keep 1/4 --out shared",
    ):
        assert part in shown
    assert main([*words, "--json"]) == 0
    assert SearchResult.from_json(json.loads(capsys.readouterr().out)) == result


def test_an_overlap_from_text_to_files(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert main(["indexcache", "overlap", "model", "--out", "study", *TEXTS]) == 0
    shown = capsys.readouterr().out
    found = json.loads(Path("study/overlap.json").read_text())
    assert f"have {found['adjacent_mean']:.3f} of their positions in common" in shown and "0.733" in shown
    assert Path("study/overlap.png").exists()


def test_every_plan_of_a_search_is_measured(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert main(["indexcache", "search", "model", "--keep", "1/2", *TEXTS, "--out", "found"]) == 0
    assert "indexcache quality model --search found" in capsys.readouterr().out
    path = SearchResult.load("found").path
    words = ["indexcache", "quality", "model", "--search", "found", "--plan", "1/2", *TEXTS, "--rows", "1"]
    assert main([*words, "--samples", "0", "--out", "found"]) == 0
    shown = capsys.readouterr().out
    for part in ("model: loss of 63 tokens in rows of 64", "dense ", "1/2 ", "3 kept ", *(str(plan) for plan in path)):
        assert part in shown, part
    measured = Quality.load("found")
    assert [each.pattern for each in measured.path] == [str(plan) for plan in path]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give plans to compare: --search FOLDER"),
        (["--plan", "FSS"], "has 3 letters and the model 4 layers"),
        (["--plan", "1/2", "--samples", "-1"], "samples is -1"),
        (["--search", "nowhere"], "no search result"),
        (["--plan", "1/2", "--device-map", "auto"], "add --hf"),
        (["--plan", "1/2", "--tasks", "needles"], "invalid choice"),
    ],
)
def test_mistakes_about_quality_are_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert main(["indexcache", "quality", "model", *TEXTS, *words]) == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith("godwit: ") and message in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model", "--keep", "0"], "keep is 0; give a fraction"),
        (["model", "--keep", "five"], "keep is 'five'; give a fraction such as 1/4"),
        (["model", "--memory", "lots"], "memory is 'lots'; give e.g. 2GB"),
        (["model", "--seq-len", "8"], "sharing would be invisible; give --seq-len above 8"),
        (["model", "--seq-len", "9000"], "the model takes 256 positions"),
        (["model", "--rows", "0"], "rows is 0"),
        (["model", "--rows", "9999", "--seq-len", "128"], "rows of 128 tokens with a document longer than"),
        (["model", "--device-map", "auto"], "add --hf"),
        (["nowhere"], "no such model folder: nowhere"),
        (["model", "--kep", "3"], "--keep"),
    ],
)
def test_mistakes_are_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert main(["indexcache", "search", *words, "--data", "texts/", "--out", "other"]) == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith("godwit: ") and message in shown


def test_memory_is_read_in_decimal_units() -> None:
    assert [parse_bytes(text) for text in ("0", "2GB", "1.5 mb", "7K", "12")] == [0, 2 * 10**9, 1_500_000, 7000, 12]


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_help_lists_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["indexcache", *words]) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS.names():
        assert f"  {name}" in shown and COMMANDS.summary(name) in shown


def test_a_wrong_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["indexcache", "serch"]) == 2
    assert capsys.readouterr().err.startswith("godwit: unknown indexcache command 'serch'")
    assert main(["indexcache", "--keep", "3"]) == 2
    assert "a command comes first" in capsys.readouterr().err
