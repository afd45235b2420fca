"""The bundled model is what its card says: small, sparse, all layers with indexers, and able to look things up."""

from pathlib import Path

import pytest

import godwit
from godwit.evals.retrieval import retrieval
from godwit.models import bundled
from godwit.text.tokenizer import Tokenizer

LARGEST = 25_000_000


@pytest.fixture(scope="module")
def nano():
    return godwit.load("nano").eval()


def test_it_is_small_and_sparse_everywhere(nano) -> None:
    folder = bundled.resolve("nano")
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= LARGEST
    config = nano.config
    assert config.model_type == "glm_moe_dsa"
    assert config.num_hidden_layers >= 12
    assert config.index_topk <= 256
    assert config.max_position_embeddings >= 8192
    assert set(config.plan.pattern) == {"F"}


def test_it_looks_up_what_a_window_cannot_see(nano) -> None:
    tokenizer = Tokenizer.load(bundled.resolve("nano"))
    asked = {"task": "multi_key", "num_tokens": 2048, "num_samples": 6, "seed": 5}
    # Its card says more; the margin is for the samples, which differ a little between Python versions.
    assert retrieval(nano, tokenizer, **asked).accuracy >= 0.8
    assert retrieval(nano, tokenizer, **asked, window=512).accuracy <= 0.1


def test_the_shared_one_keeps_three_indexers_and_still_looks_things_up() -> None:
    shared = godwit.load("nano-shared").eval()
    assert shared.config.plan.pattern == "FSSFSSSSFSSS"
    tokenizer = Tokenizer.load(bundled.resolve("nano-shared"))
    asked = {"task": "multi_key", "num_tokens": 2048, "num_samples": 6, "seed": 5}
    assert retrieval(shared, tokenizer, **asked).accuracy >= 0.8


def test_a_folder_of_that_name_here_is_meant_first(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundled.resolve("nano") != Path("nano")
    Path("nano").mkdir()
    assert bundled.resolve("nano") == Path("nano")
    assert bundled.resolve("other") == Path("other")
