"""Exported checkpoints: the same model under the plan, here and in Transformers; the same bytes; whole or not there."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import godwit
from godwit.base.errors import GodwitError
from godwit.base.progress import Progress
from godwit.indexcache.engines import engine
from godwit.indexcache.exporter import export
from godwit.models.decoder import Decoder
from godwit.models.families import config_from_hf
from godwit.models.init import build
from godwit.models.weights import fp8, load, save
from godwit.models.weights.subset import copy_without
from tests.models.parity import CASES, OWN_CASES, transformers_model

TOPK = 24
PLAN = "FSSF"
INDEXER_PARTS = ("wq_b.weight", "wk.weight", "k_norm.weight", "k_norm.bias", "weights_proj.weight")


def tokens(length: int) -> torch.Tensor:
    return torch.randint(0, 97, (length,), generator=torch.Generator().manual_seed(5))


def model_of(case: str, **changes: object) -> Decoder:
    """The case with every weight random."""
    model = build(config_from_hf((CASES | OWN_CASES)[case] | changes), seed=3).eval()
    generator = torch.Generator().manual_seed(4)
    for tensor in model.state_dict().values():
        tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    return model


def folder_of(case: str, folder: Path, *, max_shard_bytes: float = 60_000, **changes: object) -> Path:
    model = model_of(case, **changes)
    save(model, model.config, folder, max_shard_bytes=max_shard_bytes)
    return folder


def stored(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def indexer_names(*layers: int) -> set[str]:
    return {f"model.layers.{layer}.self_attn.indexer.{part}" for layer in layers for part in INDEXER_PARTS}


@pytest.mark.parametrize("sharded", [True, False])
def test_transformers_loads_it_with_our_logits(sharded: bool, tmp_path: Path) -> None:
    theirs = transformers_model("glm5")
    theirs.save_pretrained(tmp_path / "full", max_shard_size="60KB" if sharded else "5GB")
    done = export(tmp_path / "full", PLAN, tmp_path / "shared")
    assert (tmp_path / "shared/model.safetensors.index.json").exists() == sharded
    loaded, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "shared", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert [layer.self_attn.indexer is None for layer in loaded.model.layers] == [False, True, True, False]
    full, shared = load(tmp_path / "full"), load(tmp_path / "shared")
    tokens_T = tokens(6 * TOPK)
    with torch.no_grad():
        under_plan = full(tokens_T, plan=PLAN)
        torch.testing.assert_close(shared(tokens_T).logits_TV, under_plan.logits_TV, atol=1e-6, rtol=0)
        theirs_TV = loaded(tokens_T[None]).logits[0]
        # 16 index heads have no ties; what is left are near-ties whose order rounding decides.
        close_T = (under_plan.logits_TV - theirs_TV).abs().amax(1) < 1e-4
        assert close_T.float().mean() > 0.95 and close_T[: 2 * TOPK].all()
        assert (full(tokens_T).logits_TV - theirs_TV).abs().max() > 1e-2  # the plan matters
    assert sorted(under_plan.indices) == [0, 3] and done.config.plan.pattern == PLAN


@pytest.mark.parametrize("case", ["glm5", "deepseek", "glm45-dsa", "llama-dsa"])
def test_every_family_and_what_is_left_out(case: str, tmp_path: Path) -> None:
    mtp = {"num_nextn_predict_layers": 1} if case in ("glm5", "deepseek") else {}
    source = folder_of(case, tmp_path / "full", **mtp)
    done = export(source, PLAN, tmp_path / "shared")
    before, after = stored(source), stored(tmp_path / "shared")
    assert before.keys() - after.keys() == indexer_names(1, 2) and not after.keys() - before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    assert done.dropped_layers == (1, 2)
    assert done.dropped_bytes == sum(before[name].nbytes for name in indexer_names(1, 2))
    assert done.total_bytes == sum(tensor.nbytes for tensor in before.values())
    index = json.loads((tmp_path / "shared/model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(after)
    assert index["metadata"]["total_size"] == done.total_bytes - done.dropped_bytes
    model, tokens_T = load(tmp_path / "shared"), tokens(3 * TOPK)
    with torch.no_grad():
        expected_TV = load(source)(tokens_T, plan=PLAN).logits_TV
        torch.testing.assert_close(model(tokens_T).logits_TV, expected_TV, atol=1e-6, rtol=0)
    config = json.loads((tmp_path / "shared/config.json").read_text())
    if mtp:
        assert indexer_names(4) <= after.keys() and config["index_share_for_mtp_iteration"] is True
    for name in ("vllm", "sglang", "tensorrt-llm", "atom"):
        assert engine(name).runs(config, 4).pattern == PLAN
    warned = {"glm5": "", "deepseek": "no sharing for deepseek_v32"}.get(case, "only Godwit loads it")
    assert warned in " ".join(done.notes) and bool(done.notes) == bool(warned)


def test_a_model_in_memory_and_a_folder_give_the_same(tmp_path: Path) -> None:
    model = model_of("glm5", num_nextn_predict_layers=1)
    save(model, model.config, tmp_path / "full")
    done = godwit.indexcache.export(model, PLAN, tmp_path / "memory")
    copied = export(str(tmp_path / "full"), PLAN, tmp_path / "copied")
    ours, theirs = stored(tmp_path / "memory"), stored(tmp_path / "copied")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (done.dropped_bytes, done.total_bytes, done.config) == (
        copied.dropped_bytes,
        copied.total_bytes,
        copied.config,
    )
    memory, folder = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("memory", "copied"))
    assert memory == folder and memory["index_share_for_mtp_iteration"] is True


def test_a_second_export_only_takes_more_away(tmp_path: Path) -> None:
    source = folder_of("glm5", tmp_path / "full")
    export(source, PLAN, tmp_path / "half")
    done = export(tmp_path / "half", "FSSS", tmp_path / "quarter")
    assert done.dropped_layers == (3,) and load(tmp_path / "quarter").config.plan.pattern == "FSSS"
    config = json.loads((tmp_path / "quarter/config.json").read_text())
    assert (config["index_topk_pattern"], config["index_topk_freq"], config["index_skip_topk_offset"]) == ("FSSS", 4, 1)
    with pytest.raises(GodwitError, match=r"layers \[1\] have no indexer weights and cannot be F.*own plan is FSSF"):
        export(tmp_path / "half", "FFSS", tmp_path / "other")
    same = export(source, "FFFF", tmp_path / "same")
    assert not same.dropped_layers and same.dropped_bytes == 0
    assert stored(tmp_path / "same").keys() == stored(source).keys()
    assert "index_topk_pattern" not in json.loads((tmp_path / "same/config.json").read_text())


def test_weights_decide_what_can_be_full_not_the_config(tmp_path: Path) -> None:
    """A config that was edited to share, over weights that are all there, can be taken back."""
    source = folder_of("glm5", tmp_path / "full")
    raw = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(raw | {"indexer_types": ["full", "shared", "shared", "shared"]}))
    export(source, "FFSS", tmp_path / "two")
    assert indexer_names(0, 1) <= stored(tmp_path / "two").keys()
    assert not indexer_names(2, 3) & stored(tmp_path / "two").keys()


def test_other_files_come_along_and_unknown_keys_stay(tmp_path: Path) -> None:
    source = folder_of("glm5", tmp_path / "full")
    raw = json.loads((source / "config.json").read_text()) | {"bos_token_id": 3, "some_engine_key": [1, 2]}
    raw |= {"index_topk_freq": 2, "index_skip_topk_offset": 7}
    (source / "config.json").write_text(json.dumps(raw))
    for name in ("tokenizer.json", "chat_template.jinja", "README.md", "tokenizer.model", "old.bin", ".hidden"):
        (source / name).write_text(name)
    export(source, "FSFF", tmp_path / "shared")
    names = {path.name for path in (tmp_path / "shared").iterdir() if path.suffix != ".safetensors"}
    assert {"tokenizer.json", "chat_template.jinja", "README.md", "tokenizer.model", "config.json"} <= names
    assert not {"old.bin", ".hidden"} & names
    config = json.loads((tmp_path / "shared/config.json").read_text())
    assert config["some_engine_key"] == [1, 2] and config["bos_token_id"] == 3
    assert "index_topk_freq" not in config and "index_skip_topk_offset" not in config  # they would contradict


def test_quantised_weights_stay_quantised(tmp_path: Path) -> None:
    """wq_b in FP8 with its scales: kept where F, both gone where S; what is loaded is the same."""
    source = folder_of("glm5", tmp_path / "full", max_shard_bytes=5e9)
    tensors, block = load_file(source / "model.safetensors"), (16, 16)
    for layer in range(4):
        name = f"model.layers.{layer}.self_attn.indexer.wq_b.weight"
        tensors[name] = tensors[name].to(torch.float8_e4m3fn)
        tensors[name + "_scale_inv"] = torch.rand(fp8.scale_shape(tuple(tensors[name].shape), block)) + 0.5
    save_file(tensors, source / "model.safetensors")
    raw = json.loads((source / "config.json").read_text())
    raw["quantization_config"] = {"quant_method": "fp8", "weight_block_size": list(block)}
    (source / "config.json").write_text(json.dumps(raw))
    done = export(source, PLAN, tmp_path / "shared")
    after = stored(tmp_path / "shared")
    lost = indexer_names(1, 2) | {f"model.layers.{n}.self_attn.indexer.wq_b.weight_scale_inv" for n in (1, 2)}
    assert tensors.keys() - after.keys() == lost
    assert done.dropped_bytes == sum(tensors[name].nbytes for name in lost)
    assert "stay so" in done.notes[0]
    with torch.no_grad():
        expected_TV = load(source)(tokens(3 * TOPK), plan=PLAN).logits_TV
        assert torch.equal(load(tmp_path / "shared")(tokens(3 * TOPK)).logits_TV, expected_TV)


@pytest.mark.parametrize(
    ("case", "plan", "message"),
    [
        ("glm5", "SFFF", "must begin with F"),
        ("glm5", "FSS", "has 3 letters and the model 4 layers"),
        ("glm5", "FXSS", "got 'X'"),
        ("glm5-pattern", "FFFS", r"layers \[1\] have no indexer weights"),
        ("flash", "FSSS", "dense glm4_moe_lite model without indexers.*godwit convert"),
    ],
)
def test_what_is_refused(case: str, plan: str, message: str, tmp_path: Path) -> None:
    source = folder_of(case, tmp_path / "full")
    with pytest.raises(GodwitError, match=message):
        export(source, plan, tmp_path / "out")
    with pytest.raises(GodwitError, match=message):
        export(load(source), plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_faults_are_found_before_anything_is_written(tmp_path: Path) -> None:
    source = folder_of("glm5", tmp_path / "full")
    with pytest.raises(GodwitError, match="is the checkpoint itself"):
        export(source, PLAN, source)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(GodwitError, match="holds something else"):
        export(source, PLAN, tmp_path / "mine")
    assert (tmp_path / "mine/thesis.txt").exists()
    shard = next(source.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(GodwitError, match="truncated"):
        export(source, PLAN, tmp_path / "out")
    assert not (tmp_path / "out").exists()


KILLED = """
import os, signal, sys
from godwit.base.progress import Progress
from godwit.indexcache.exporter import export
def count(progress, num_bytes):
    progress.done += num_bytes
    if progress.done > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
Progress.advance = count
export(sys.argv[1], "FSSF", sys.argv[2])
"""


@pytest.mark.parametrize("older", [False, True])
def test_a_killed_export_leaves_nothing_that_looks_whole(older: bool, tmp_path: Path) -> None:
    source = folder_of("glm5", tmp_path / "full")
    out = tmp_path / "out"
    if older:
        export(source, "FSSS", out)
    done = subprocess.run([sys.executable, "-c", KILLED, str(source), str(out), "100000"], env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    if older:
        assert load(out).config.plan.pattern == "FSSS"
    left = [path for path in tmp_path.iterdir() if path not in (source, out)]
    assert out.exists() == older and left and not any((path / "config.json").exists() for path in left)
    export(source, PLAN, out)
    assert load(out).config.plan.pattern == PLAN


def test_an_interrupted_export_cleans_up(tmp_path: Path) -> None:
    source = folder_of("glm5", tmp_path / "full")
    with mock.patch.object(Progress, "advance", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        export(source, PLAN, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_copy_that_would_not_fit_its_config_is_not_kept(tmp_path: Path) -> None:
    checkpoint = godwit.models.weights.inspect(folder_of("glm5", tmp_path / "full"))
    with pytest.raises(GodwitError, match=r"do not fit its config\.json"):
        copy_without(checkpoint, indexer_names(1), checkpoint.raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()
