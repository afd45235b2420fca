"""`godwit indexcache flags` and `export`: what they print and write, and mistakes as one line."""

import json
from pathlib import Path

import pytest

from godwit.base.files import write_json
from godwit.cli import main
from godwit.indexcache.result import Counters, SearchResult
from godwit.models.families import config_from_hf
from godwit.models.init import build
from godwit.models.weights import load, save
from tests.models.parity import CASES


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sparse and a dense model, and a search of the former."""
    monkeypatch.chdir(tmp_path)
    for name, case in (("full", "glm5"), ("dense", "llama")):
        model = build(config_from_hf(CASES[case]), seed=1)
        save(model, model.config, name)
    SearchResult(
        model="full",
        num_layers=4,
        topk=24,
        objective="all",
        num_tokens=64,
        num_counted=62,
        seq_len=32,
        start="FFFF",
        full_loss=2.0,
        order=(2, 1, 3),
        losses=(2.0, 2.25, 2.5),
        pinned=(0,),
        method="greedy",
        counters=Counters(
            layer_evaluations=10, naive_layer_evaluations=30, plan_evaluations=4, naive_plan_evaluations=4
        ),
    ).save(tmp_path / "search")
    return tmp_path


def test_export_says_what_is_gone_and_what_to_type(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["indexcache", "export", "full", "--search", "search", "--keep", "1/2", "--out", "shared"]) == 0
    shown = capsys.readouterr().out
    assert load("shared").config.plan.pattern == "FSSF"
    for part in (
        "shared: glm_moe_dsa, 2 of 4 layers have indexers",
        "left out 61.7 KB of 856.9 KB (7.20%)",
        "the indexers of layers 1, 2",
        """vllm serve shared --hf-overrides '{"use_index_cache": true, "index_topk_pattern": "FSSF"}'""",
        "python -m sglang.launch_server --model-path shared --json-model-override-args "
        """'{"indexer_types": ["full", "shared", "shared", "full"]}'""",
        'or config.json without indexer_types: {"index_topk_freq": 3, "index_skip_topk_offset": 1}',
        "dsa_indexer_topk_freq=3 dsa_indexer_skip_topk_offset=1",
    ):
        assert part in shown, part
    assert main(["indexcache", "flags", "nano-shared"]) == 0
    assert "plan     FSSFSSSSFSSS" in capsys.readouterr().out
    assert main(["indexcache", "flags", "shared", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["plan"] == "FSSF" and data["engines"]["atom"]["settings"]["index_skip_topk_offset"] == 0
    assert main(["indexcache", "export", "full", "--plan", "FFFF", "--out", "same", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["dropped_bytes"] == 0 and data["dropped_layers"] == [] and data["plan"] == "FFFF"


def test_flags_of_a_plan_a_search_and_a_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, plan in (
        (["FSSF"], "FSSF"),
        (["search"], "FSSS"),
        (["search", "--keep", "3"], "FFSF"),
        (["full"], "FFFF"),
    ):
        assert main(["indexcache", "flags", *words]) == 0
        assert capsys.readouterr().out.startswith(f"plan     {plan}\n")
    assert main(["indexcache", "flags", "FSFSSF"]) == 0
    assert "Megatron\n  not possible" in capsys.readouterr().out


def test_flags_of_a_frequency_differ_between_engines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["indexcache", "flags", "--freq", "4", "--layers", "9"]) == 0
    shown = dict(line.rsplit("  ", 1) for line in capsys.readouterr().out.splitlines())
    found = {name.strip(): plan for name, plan in shown.items()}
    assert found["vLLM"] == "FFSSSFSSS" and found["Megatron"] == "FSSSFSSSF" and len(found) == 8
    assert main(["indexcache", "flags", "--freq", "4", "--offset", "0", "--layers", "9", "--json"]) == 0
    plans = json.loads(capsys.readouterr().out)["plans"]
    assert plans["atom"] == "FSSSFSSSF" and plans["sglang"].startswith("refused: a sharing plan must begin with F")


def test_deepseek_v4_takes_letters_of_its_compressed_layers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ratios = [0, 0] + [4 if layer % 2 == 0 else 128 for layer in range(2, 43)]
    write_json("v4/config.json", {"num_hidden_layers": 43, "compress_ratios": ratios})
    assert main(["indexcache", "flags", "FSSS" * 5 + "F", "--v4", "v4", "--model", "V4"]) == 0
    shown = capsys.readouterr().out
    assert "SGLang" not in shown and '"index_topk_pattern": "FSSSFSSSFSSSFSSSFSSSF"' in shown
    assert """or vllm serve V4 --hf-overrides '{"use_index_cache": true, "index_topk_freq": 4}'""" in shown
    assert main(["indexcache", "flags", "FSSS", "--v4", "v4"]) == 2
    assert "has 4 letters; give 21" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["flags"], "give a plan such as FSSSFSSS"),
        (["flags", "SFF"], "must begin with F"),
        (["flags", "nowhere"], "no folder, no bundled model (nano, nano-shared) and no plan"),
        (["flags", "dense"], "dense llama model without indexers"),
        (["flags", "full", "--keep", "1/2"], "--keep is for a search's folder"),
        (["flags", "search", "--keep", "0"], "give a fraction of the layers"),
        (["flags", "--freq", "4"], "--freq needs --layers"),
        (["flags", "--freq", "-1", "--layers", "4"], "at least 1"),
        (["flags", "FSS", "--v4", "full"], "has no compress_ratios"),
        (["export", "full", "--out", "x"], "give either --plan"),
        (["export", "full", "--out", "x", "--plan", "FSSS", "--search", "search"], "give either --plan"),
        (["export", "full", "--out", "x", "--plan", "FSSS", "--keep", "1/4"], "--keep cuts a search's plan"),
        (["export", "full", "--out", "x", "--plan", "FSS"], "has 3 letters and the model 4 layers"),
        (["export", "full", "--out", "x", "--plan", "SSSS"], "must begin with F"),
        (["export", "dense", "--out", "x", "--plan", "FSSS"], "godwit convert"),
        (["export", "gone", "--out", "x", "--plan", "FSSS"], "no such model folder: gone"),
        (["export", "full", "--out", "full", "--plan", "FSSS"], "is the checkpoint itself"),
        (["export", "full", "--out", "x", "--search", "nowhere"], "is no folder, no bundled model"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, folder: Path, capsys) -> None:
    expected = 0 if message == "at least 1" else 2
    assert main(["indexcache", *words]) == expected
    captured = capsys.readouterr()
    assert message in (captured.out if expected == 0 else captured.err)
    assert captured.err.count("\n") <= 1 and not (folder / "x").exists()
