"""What `look` keeps of a text, against the model's own forward pass and sums done by hand."""

import pytest
import torch
import torch.nn.functional as F

from godwit.base.errors import GodwitError
from godwit.models.selections import Selections, look
from tests.indexcache.tiny import SEQ_LEN, TOPK, model, tokens


@pytest.fixture(scope="module")
def tiny():
    return model(num_hidden_layers=4)


@pytest.fixture(scope="module")
def text() -> torch.Tensor:
    return tokens(rows=1)[0]


@pytest.mark.parametrize("plan", ["FFFF", "FSFS", "FSSS"])
def test_it_is_the_model_under_the_plan(tiny, text, plan: str) -> None:
    seen = look(tiny, text, plan=plan)
    with torch.inference_mode():
        output = tiny(text, plan=plan)
    for layer, index_TK in output.indices.items():
        assert torch.equal(seen.choices[layer], index_TK)
    assert seen.sources == {"FFFF": (0, 1, 2, 3), "FSFS": (0, 0, 2, 2), "FSSS": (0, 0, 0, 0)}[plan]
    losses_T = F.cross_entropy(output.logits_TV[:-1], text[1:], reduction="none")
    torch.testing.assert_close(seen.losses_T, losses_T, atol=2e-5, rtol=1e-4)
    assert (seen.best_T == output.logits_TV[:-1].argmax(1)).float().mean() > 0.95


def test_mass_is_the_attention_on_the_positions_used(tiny, text) -> None:
    seen = look(tiny, text, plan="FSFS")
    for layer, source in enumerate(seen.sources):
        for position in (TOPK, TOPK + 7, SEQ_LEN - 1):
            attention_L = seen.attention(layer, position)
            assert attention_L.shape == (position + 1,)
            assert float(attention_L.sum()) == pytest.approx(1, abs=1e-5)
            used = seen.chosen(source, position)
            assert len(used) == TOPK and used == sorted(set(used)) and used[-1] <= position
            assert float(attention_L[used].sum()) == pytest.approx(float(seen.mass_NT[layer, position]), abs=1e-5)
    assert torch.allclose(seen.mass_NT[:, :TOPK], torch.ones(4, TOPK), atol=1e-5)
    assert float(seen.mass_NT[:, TOPK:].mean()) < 0.99


def test_another_top_k_is_another_model_and_leaves_the_given_one_alone(tiny, text) -> None:
    before = look(tiny, text)
    few, many = look(tiny, text, topk=3), look(tiny, text, topk=SEQ_LEN - 1)
    assert few.choices[0].shape[1] == 3 and len(few.chosen(2, 20)) == 3
    assert float(few.mass_NT.mean()) < float(before.mass_NT.mean()) < float(many.mass_NT.mean())
    assert torch.equal(look(tiny, text).losses_T, before.losses_T)
    with torch.inference_mode():
        dense = tiny.features(text, tiny.context(text), dense=True).hidden_TD @ tiny.lm_head_weight.T
    expected = F.cross_entropy(dense[: SEQ_LEN - 2], text[1 : SEQ_LEN - 1], reduction="none")
    torch.testing.assert_close(many.losses_T[: SEQ_LEN - 2], expected, atol=2e-4, rtol=1e-3)


def test_layers_without_an_indexer_choose_nothing(text) -> None:
    shared = model(num_hidden_layers=4, indexer_types=("full", "shared", "full", "shared"))
    seen = look(shared, text)
    layers, common_NN = seen.common_NN()
    assert layers == (0, 2) == tuple(seen.choices) and isinstance(seen, Selections)
    assert torch.allclose(common_NN.diagonal(), torch.ones(2, dtype=torch.float64))
    with pytest.raises(GodwitError, match=r"layers \[1, 3\] have no indexer weights"):
        look(shared, text, plan="FFFF")


def test_what_cannot_be_looked_at(tiny, text) -> None:
    for short, topk in ((text[:TOPK], None), (text, SEQ_LEN), (text, 0)):
        with pytest.raises(GodwitError, match="nothing to choose"):
            look(tiny, short, topk=topk)
    with pytest.raises(GodwitError, match="4 layers"):
        look(tiny, text, plan="FS")
