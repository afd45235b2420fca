"""The decoder's own promises: packing, prediction layer, plans, recomputation, initialisation."""

import pytest
import torch
import torch.nn.functional as F

from godwit.base.errors import GodwitError
from godwit.models.families import config_from_hf
from godwit.models.init import build
from godwit.nn.layer import PredictionLayer
from tests.models.parity import CASES


def model(case: str, **changes):
    torch.manual_seed(0)
    return build(config_from_hf(CASES[case] | changes), seed=1)


def tokens(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 97, (length,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", ["glm45", "flash", "glm52", "deepseek"])
def test_packed_equals_separate(case: str) -> None:
    decoder = model(case)
    parts = [tokens(n, n) for n in (3, 70, 26, 1)]
    borders_S = torch.tensor([0, 3, 73, 99, 100])
    with torch.no_grad():
        packed_TV = decoder(torch.cat(parts), borders_S).logits_TV
        separate_TV = torch.cat([decoder(part).logits_TV for part in parts])
    torch.testing.assert_close(packed_TV, separate_TV, atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ["flash", "glm5"])
def test_prediction_layer_is_the_papers_formula(case: str) -> None:
    decoder = model(case, num_nextn_predict_layers=1)
    tokens_T = tokens(20)
    context = decoder.context(tokens_T)
    with torch.no_grad():
        features = decoder.features(tokens_T, context, num_mtp_depths=3)
        layer = decoder.model.layers[4]
        assert isinstance(layer, PredictionLayer)
        batch = decoder._attn_input(context, dense=False)
        previous_TD = features.hidden_TD
        for depth in range(3):
            ahead = [min(t + depth + 1, 19) for t in range(20)]
            embedded_TD = layer.enorm(decoder.model.embed_tokens(tokens_T[ahead]))
            x_TD = layer.eh_proj(torch.cat([embedded_TD, layer.hnorm(previous_TD)], dim=1))
            x_TD = x_TD + layer.self_attn(layer.input_layernorm(x_TD), batch).out_TD
            x_TD = x_TD + layer.mlp(layer.post_attention_layernorm(x_TD), context)[0]
            previous_TD = layer.shared_head.norm(x_TD)
            usable = 20 - depth - 1
            torch.testing.assert_close(features.mtp_hidden[depth][:usable], previous_TD[:usable], atol=1e-5, rtol=0)


def test_all_depths_share_one_parameter_set_and_loads_add_up() -> None:
    decoder = model("flash", num_nextn_predict_layers=1)
    tokens_T = tokens(30)
    features = decoder.features(tokens_T, decoder.context(tokens_T), num_mtp_depths=2)
    assert features.load_LE.shape == (len(decoder.expert_gates()), 8) == (4, 8)
    assert features.load_LE.sum(dim=1).tolist() == [60.0, 60.0, 60.0, 120.0]
    head = decoder.lm_head_weight
    sum(F.linear(h, head).logsumexp(1).sum() for h in features.mtp_hidden).backward()
    assert decoder.model.layers[4].eh_proj.weight.grad.abs().sum() > 0
    assert sum("eh_proj" in name for name, _ in decoder.named_parameters()) == 1


def test_a_given_plan_replaces_the_configs() -> None:
    full, tokens_T = model("glm5"), tokens(80)
    shared = model("glm5", indexer_types=["full", "shared", "shared", "full"])
    shared.load_state_dict({n: t for n, t in full.state_dict().items() if n in shared.state_dict()})
    with torch.no_grad():
        by_plan, by_config, plain = full(tokens_T, plan="FSSF"), shared(tokens_T), full(tokens_T)
    assert torch.equal(by_plan.logits_TV, by_config.logits_TV)
    assert sorted(by_plan.indices) == [0, 3]
    assert sorted(plain.indices) == [0, 1, 2, 3]
    assert not torch.allclose(plain.logits_TV, by_plan.logits_TV)


def test_up_to_index_topk_tokens_attention_is_dense_and_beyond_it_is_not() -> None:
    decoder = model("glm5")
    for length, same in ((24, True), (25, False), (90, False)):
        tokens_T = tokens(length)
        context = decoder.context(tokens_T)
        with torch.no_grad():
            sparse = decoder.features(tokens_T, context, keep_indices=True)
            dense = decoder.features(tokens_T, context, dense=True, keep_indices=True)
        assert torch.equal(sparse.hidden_TD, dense.hidden_TD) == same
        assert bool(sparse.indices) != same
        assert not dense.indices


def test_recomputation_changes_no_gradient() -> None:
    grads = []
    for recompute in (False, True):
        decoder = model("glm52", num_nextn_predict_layers=1)
        tokens_T = tokens(60)
        features = decoder.features(tokens_T, decoder.context(tokens_T), num_mtp_depths=2, recompute=recompute)
        (features.hidden_TD.square().mean() + features.mtp_hidden[1].square().mean() + features.balance_loss).backward()
        grads.append({name: p.grad for name, p in decoder.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    assert all(torch.equal(grads[0][name], grads[1][name]) for name in grads[0])


def test_initialisation_is_by_name_and_seed() -> None:
    one, two, other = model("flash"), model("flash", num_hidden_layers=2), build(model("flash").config, seed=2)
    state, small = one.state_dict(), two.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in small.items())
    assert not torch.equal(state["lm_head.weight"], other.state_dict()["lm_head.weight"])
    assert state["lm_head.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert all((t == 1).all() for n, t in state.items() if n.endswith("norm.weight"))
    assert all((t == 0).all() for n, t in state.items() if n.endswith("bias"))


def test_bfloat16_keeps_router_corrections_in_float32() -> None:
    decoder = build(model("flash").config, dtype=torch.bfloat16)
    assert decoder.expert_gates()[0].e_score_correction_bias.dtype == torch.float32
    assert decoder(tokens(9)).logits_TV.dtype == torch.bfloat16


def test_matrix_splits_cover_their_matrices() -> None:
    decoder = model("glm5", num_nextn_predict_layers=1)
    shapes = {name: p.shape for name, p in decoder.named_parameters()}
    splits = decoder.matrix_splits()
    assert all(sum(rows) == shapes[name][-2] for name, rows in splits.items())
    assert splits["model.layers.4.self_attn.q_b_proj.weight"] == (20,) * 4
    assert splits["model.layers.0.self_attn.kv_b_proj.weight"] == (12, 16) * 4
    assert "model.layers.0.mlp.experts.gate_up_proj" not in splits


@pytest.mark.parametrize(
    ("case", "call", "message"),
    [
        ("glm52", {"plan": "FFFF"}, r"layers \[3\] have no indexer weights"),
        ("glm52", {"plan": "FFF"}, "has 3 letters"),
        ("glm52", {"plan": "SFFS"}, "must begin with F"),
        ("flash", {"plan": "FFFF"}, "no indexers"),
        ("flash", {"cu_seqlens": torch.tensor([0, 3])}, "ends at 3 and there are 40 tokens"),
    ],
)
def test_calls_that_are_refused(case: str, call: dict, message: str) -> None:
    with pytest.raises(GodwitError, match=message):
        model(case)(tokens(40), **call)


def test_tokens_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(GodwitError, match="flat integer tensor"):
        model("flash")(torch.zeros(2, 3, dtype=torch.int64))
