"""Overlap against sets of positions, and its files."""

import json
from pathlib import Path

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.indexcache.overlaps import clusters, overlap
from tests.indexcache.tiny import TOPK, model, tokens


def test_overlap_is_the_mean_share_of_common_positions(tmp_path: Path) -> None:
    tiny, rows = model(num_hidden_layers=4), tokens()
    found = overlap(tiny, rows)
    total, count, chance = torch.zeros(4, 4), 0, 0.0
    for tokens_T in rows:
        with torch.inference_mode():
            indices = tiny(tokens_T).indices
        for query in range(TOPK, len(tokens_T)):
            sets = [set(indices[layer][query].tolist()) for layer in range(4)]
            total += torch.tensor([[len(a & b) / TOPK for b in sets] for a in sets])
            count, chance = count + 1, chance + TOPK / (query + 1)
    torch.testing.assert_close(torch.tensor(found.matrix), total / count, atol=1e-6, rtol=0)
    assert found.chance == pytest.approx(chance / count)
    assert found.adjacent_mean == pytest.approx(float((total / count).diagonal(1).mean()), rel=1e-6)
    assert found.layers == (0, 1, 2, 3)
    numbers, picture = found.save(tmp_path)
    assert json.loads(numbers.read_text())["matrix"] == [list(line) for line in found.matrix]
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 3000


def test_only_layers_with_indexers_are_compared() -> None:
    found = overlap(model(num_hidden_layers=4, indexer_types=("full", "shared", "full", "shared")), tokens())
    assert found.layers == (0, 2) and len(found.matrix) == 2
    with pytest.raises(GodwitError, match="no pair to compare"):
        overlap(model(num_hidden_layers=2, indexer_types=("full", "shared")), tokens())
    with pytest.raises(GodwitError, match="sharing would be invisible"):
        overlap(model(num_hidden_layers=2), tokens(length=TOPK))


def test_clusters_are_runs_of_like_neighbours() -> None:
    assert clusters((0, 1, 2, 3, 5), [0.8, 0.6, 0.7, 0.9]) == ((0, 1), (2, 3, 5))
    assert clusters((0, 1), [0.1]) == ()
