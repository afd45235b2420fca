"""Transformers models searched in place: the losses are the model's own, and the order is our own loading's."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers

from godwit.base.errors import GodwitError
from godwit.indexcache.calibration import Row
from godwit.indexcache.engine import DecoderEngine, Engine
from godwit.indexcache.overlaps import overlap
from godwit.indexcache.proxy import ProxyEngine
from godwit.indexcache.quality import quality
from godwit.indexcache.searching import search
from godwit.nn.share_plan import SharePlan
from godwit.text.bpe import train_bpe
from godwit.text.tokenizer import Tokenizer
from tests.models import parity
from tests.models.parity import CASES, COMMON, INDEX, LATENT, our_model, transformers_model

LENGTH = 72
SMALL = COMMON | LATENT | INDEX
PARTLY = ["full", "full", "shared", "full"]
NO_SPECIALS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
MISTRAL = NO_SPECIALS | {"no_rope_layers": [1, 1, 1, 1]}
SLIDING = {"sliding_window": 16, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 24}
SLIDING |= {"swa_kv_lora_rank": 16, "swa_head_dim": 20, "swa_qk_nope_head_dim": 12, "swa_qk_rope_head_dim": 8}
SLIDING |= {"swa_v_head_dim": 16}
VISION = {"model_type": "pixtral", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
VISION |= {"num_attention_heads": 2, "head_dim": 16, "image_size": 32, "patch_size": 16}
FAMILIES: dict[str, dict[str, Any]] = {
    "glm_moe_dsa": SMALL,
    "deepseek_v32": SMALL | {"n_group": 4, "topk_group": 2},
    "axk2": SMALL | {"n_group": 1, "topk_group": 1},
    "hy_v4": SMALL | {"indexer_types": ["full"] * 4} | NO_SPECIALS,
    "mistral_large4": SMALL | {"indexer_types": ["full"] * 4, "kv_source_layers": [0, 1, 1, 1]} | MISTRAL,
    "dots3_note_text": SMALL | {"layer_types": ["sliding_attention", "indexed_attention"] * 2} | SLIDING | NO_SPECIALS,
}


def tokens(number: int = 0) -> torch.Tensor:
    return torch.randint(0, 97, (LENGTH,), generator=torch.Generator().manual_seed(number))


def build(family: str, **changes: Any) -> transformers.PreTrainedModel:
    """A random model of a family that `CASES` need not know."""
    torch.manual_seed(0)
    values = FAMILIES[family] | changes
    if family == "mistral_large4":
        config = transformers.MistralLarge4Config(text_config=values, vision_config=VISION)
        config._attn_implementation = "eager"
        model = transformers.MistralLarge4ForConditionalGeneration(config).eval()
    else:
        config = transformers.AutoConfig.for_model(family, **values)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if not name.endswith("norm.weight"):
                tensor.copy_(0.1 * torch.randn_like(tensor))
    return model


def plain_losses(model: transformers.PreTrainedModel, tokens_T: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits_TV = model(tokens_T[None]).logits[0, :-1].float()
    return F.cross_entropy(logits_TV, tokens_T[1:], reduction="none")


def losses(engine: Engine, tokens_T: torch.Tensor, plan: str) -> torch.Tensor:
    with torch.inference_mode():
        run = engine.enter(Row.of(tokens_T))
        state = run.first
        for layer, letter in enumerate(plan):
            state = run.step(layer, state, letter == "F")
        return run.losses(state)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_at_a_time_is_the_models_own_forward(family: str) -> None:
    model = build(family)
    expected = plain_losses(model, tokens())
    with ProxyEngine(model) as engine:
        plan = str(engine.plan)
        torch.testing.assert_close(losses(engine, tokens(), plan), expected, atol=1e-5, rtol=0)
        shared = losses(engine, tokens(), "F" + "S" * (len(plan) - 1))
        assert (shared - expected).abs().max() > 1e-4, "sharing must show"
    torch.testing.assert_close(plain_losses(model, tokens()), expected, atol=0, rtol=0)


@pytest.mark.parametrize("family", ["glm_moe_dsa", "hy_v4"])
def test_flipped_layers_are_the_models_own_sharing(family: str) -> None:
    """The same weights in a model whose config shares: its own way of handing positions on is the reference."""
    full = build(family)
    sharing = build(family, indexer_types=PARTLY)
    kept = {name: tensor for name, tensor in full.state_dict().items() if ".2.self_attn.indexer" not in name}
    sharing.load_state_dict(kept)
    expected = plain_losses(sharing, tokens())
    with ProxyEngine(full) as engine:
        torch.testing.assert_close(losses(engine, tokens(), "FFSF"), expected, atol=1e-5, rtol=0)
    with ProxyEngine(sharing) as engine:
        assert str(engine.plan) == "FFSF"
        torch.testing.assert_close(losses(engine, tokens(), "FFSF"), expected, atol=1e-5, rtol=0)


def test_quality_is_that_of_our_own_loading(tmp_path: Path) -> None:
    theirs = transformers_model("glm5")
    ours = our_model(theirs)
    train_bpe(["one two three"], 300).save(tmp_path)
    plans = {"half": SharePlan("FSFS")}
    asked = {"plans": plans, "tokenizer": Tokenizer.load(tmp_path), "num_samples": 0, "path": [SharePlan("FFFS")]}
    rows = [Row.of(tokens(0)), Row.of(tokens(1))]
    a = quality(ProxyEngine(theirs), rows, **asked)
    b = quality(DecoderEngine(ours), rows, **asked)
    assert [each.side for each in a.sides] == ["DSA", "half"] and b.sides[0].side == "dense"
    for each, other in zip((*a.sides, *a.path), (*b.sides[1:], *b.path), strict=True):
        assert (each.side, each.pattern) == (other.side, other.pattern)
        assert each.loss == pytest.approx(other.loss, abs=1e-5)
    assert len({each.loss for each in (*a.sides, *a.path)}) == 3 and a.num_tokens == b.num_tokens == 2 * (LENGTH - 1)


@pytest.mark.parametrize("case", ["glm5", "deepseek"])
def test_the_order_is_that_of_our_own_loading(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parity.CASES, case, CASES[case] | {"num_hidden_layers": 5})
    theirs = transformers_model(case)
    ours = our_model(theirs)
    rows = [tokens(0), tokens(1)]
    a, b = search(theirs, rows, keep=2), search(ours, rows, keep=2)
    assert a.order == b.order and len(a.order) == 3
    assert (a.full_loss, *a.losses) == pytest.approx((b.full_loss, *b.losses), rel=1e-5)
    assert [each.pattern for each in a.baselines] == [each.pattern for each in b.baselines]
    x, y = overlap(theirs, rows), overlap(ours, rows)
    torch.testing.assert_close(torch.tensor(x.matrix), torch.tensor(y.matrix), atol=2e-3, rtol=0)


@pytest.mark.parametrize("family", ["glm_moe_dsa", "deepseek_v32", "hy_v4", "dots3_note_text"])
def test_a_model_spread_by_device_map_has_the_same_losses(family: str, tmp_path: Path) -> None:
    """Embedding, head and two layers stay on disk and are fetched for each use: the one spread that needs no GPU."""
    model = build(family)
    model.save_pretrained(tmp_path)
    parts = [f"model.{name}" for name, _ in model.model.named_children() if name != "layers"]
    parts += [f"model.layers.{number}" for number in range(len(model.model.layers))]
    apart = ["model.embed_tokens", "model.layers.1", "model.layers.2", "lm_head"]
    spread = type(model).from_pretrained(
        tmp_path,
        attn_implementation="eager",
        device_map=dict.fromkeys(parts, "cpu") | dict.fromkeys(apart, "disk"),
        offload_folder=tmp_path / "offloaded",
    )
    assert {parameter.device.type for parameter in spread.parameters()} == {"cpu", "meta"}
    with ProxyEngine(model) as whole, ProxyEngine(spread) as engine:
        plan = "FS" * (whole.num_layers // 2)
        torch.testing.assert_close(losses(engine, tokens(), plan), losses(whole, tokens(), plan), atol=0, rtol=0)
    torch.testing.assert_close(plain_losses(spread, tokens()), plain_losses(model, tokens()), atol=0, rtol=0)


def test_documents_of_packed_rows_run_one_by_one() -> None:
    model = build("glm_moe_dsa")
    packed = Row.of(
        torch.cat([tokens(0), tokens(1)[:9], tokens(2)]), torch.tensor([0, LENGTH, LENGTH + 9, 2 * LENGTH + 9])
    )
    together = search(model, [packed], keep=2, baselines=False)
    apart = search(model, [tokens(0), tokens(2)], keep=2, baselines=False)
    assert together.order == apart.order and together.losses == apart.losses


def test_a_model_without_indexers_is_refused_and_left_alone() -> None:
    dense = transformers_model("flash")
    with pytest.raises(GodwitError, match="no Transformers model with lightning indexers"):
        search(dense, [tokens()], keep=2)
    model = build("glm_moe_dsa")
    before = [type(module) for module in model.modules()]
    with pytest.raises(GodwitError, match="sharing would be invisible"):
        search(model, [tokens()[:20]], keep=2)
    assert [type(module) for module in model.modules()] == before
