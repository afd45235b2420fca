"""The inspector's figures are those of `look`, and add up."""

import pytest
import torch

import godwit
from godwit.models.bundled import resolve
from godwit.models.selections import look


@pytest.fixture(scope="module")
def text(http) -> str:
    return http.get("/inspect/sample").json()["prompt"]


def test_a_plan_beside_the_models_own(http, text: str) -> None:
    own = http.post("/inspect", json={"prompt": text}).json()
    assert own["plan"] == own["own_plan"] == "F" * 12 and own["topk"] == 256
    assert own["agreement"] == 1 and own["loss"] == own["own_loss"]
    assert "".join(own["tokens"]) == text
    shared = http.post("/inspect", json={"prompt": text, "plan": "1/4"}).json()
    assert shared["sources"] == [0] * 4 + [4] * 4 + [8] * 4
    assert shared["own_loss"] == own["loss"] < shared["loss"] and shared["agreement"] < 1
    matrix = torch.tensor(shared["overlap"]["matrix"])
    assert matrix.shape == (12, 12) and torch.allclose(matrix, matrix.T)
    assert torch.allclose(matrix.diagonal(), torch.ones(12), atol=1e-3)
    seen = look(godwit.load(resolve("nano")).eval(), torch.tensor(own["token_ids"]), plan="FSSS" * 3)
    kept = [float(row_T[seen.choosing].mean()) for row_T in seen.mass_NT]
    assert shared["mass"] == pytest.approx(kept, abs=1e-3)
    assert shared["losses"] == pytest.approx(seen.losses_T.tolist(), abs=2e-3)


def test_the_sample_is_answered_with_indexers_and_lost_without(http, text: str) -> None:
    ask = {"prompt": text, "position": len(http.post("/tokenize", json={"prompt": text}).json()["tokens"]) - 3}
    found = {plan: http.post("/inspect/token", json={**ask, "plan": plan}).json() for plan in ("1/1", "1/4")}
    answer = found["1/1"]["next"]
    assert answer["guess"] == answer["text"] and text.endswith(answer["text"] + "\n")
    assert found["1/4"]["next"]["guess"] != answer["text"] == found["1/4"]["next"]["own_guess"]
    for plan, token in found.items():
        for layer in token["layers"]:
            assert len(layer["selected"]) == 256 and max(layer["selected"]) <= ask["position"]
            assert layer["source"] == (layer["layer"] if plan == "1/1" else layer["layer"] // 4 * 4)
            assert (layer["own_shared"] == 1) or plan == "1/4"
            assert 0 < layer["mass"] <= 1
            attention = [one["attention"] for one in layer["strongest"]]
            assert attention == sorted(attention, reverse=True) and sum(attention) <= 1.001


def test_a_smaller_top_k(http, text: str) -> None:
    found = [http.post("/inspect", json={"prompt": text, "topk": topk}).json() for topk in (16, 400)]
    assert found[0]["loss"] > found[1]["loss"]
    assert sum(found[0]["mass"]) < sum(found[1]["mass"])
