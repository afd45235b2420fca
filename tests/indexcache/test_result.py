"""The result: cut anywhere, there and back through JSON, and what is refused."""

import dataclasses
import json
from pathlib import Path

import pytest

import godwit
from godwit.base.errors import GodwitError
from godwit.indexcache.result import Baseline, Counters, SearchResult, num_kept, parse_keep


def result(**changes) -> SearchResult:
    values = {
        "model": "tiny",
        "num_layers": 6,
        "topk": 8,
        "objective": "all",
        "num_tokens": 64,
        "num_counted": 62,
        "seq_len": 32,
        "start": "FFFFFF",
        "full_loss": 2.0,
        "order": (4, 2, 5),
        "losses": (2.0, 2.25, 2.5),
        "pinned": (0,),
        "method": "greedy",
        "counters": Counters(
            layer_evaluations=10, naive_layer_evaluations=30, plan_evaluations=4, naive_plan_evaluations=4
        ),
        "baselines": (Baseline(name="uniform", num_full=3, pattern="FSFSFS", loss=3.0),),
    }
    return SearchResult(**(values | changes))


def test_a_result_is_cut_at_any_ratio() -> None:
    found = result()
    assert str(found.plan) == "FFSFSS"
    assert [str(found.plan_at(keep)) for keep in (6, 5, 4, 3)] == ["FFFFFF", "FFFFSF", "FFSFSF", "FFSFSS"]
    assert str(found.plan_at(0.5)) == str(found.plan_at(3))
    assert found.loss_at(1.0) == 2.0 and found.loss_at(4) == 2.25
    with pytest.raises(GodwitError, match="this search reaches from 3 to 6"):
        found.plan_at(2)


def test_a_result_survives_the_disk(tmp_path: Path) -> None:
    found = result()
    assert SearchResult.load(found.save(tmp_path)) == found
    assert SearchResult.load(tmp_path) == found
    assert SearchResult.from_json(json.loads(json.dumps(found.to_json()))) == found
    with pytest.raises(GodwitError, match="no search result"):
        SearchResult.load(tmp_path / "nowhere")
    with pytest.raises(GodwitError, match="unknown field 'ordr'"):
        SearchResult.from_json(found.to_json() | {"ordr": []})


@pytest.mark.parametrize("changes", [{"order": (4, 4, 5)}, {"order": (4, 2)}, {"order": (0, 2, 5)}, {"pinned": (0, 2)}])
def test_a_result_that_contradicts_itself_is_refused(changes: dict) -> None:
    with pytest.raises(GodwitError, match="search result's order"):
        dataclasses.replace(result(), **changes)


def test_keep_is_a_fraction_rounded_up_or_a_count() -> None:
    # The published counts for 47 layers (facts: 24 and 12), see the paper's appendix B.
    assert [num_kept(keep, 47) for keep in (1 / 2, 1 / 4, 7, 1.0)] == [24, 12, 7, 47]
    assert [parse_keep(text) for text in ("1/4", "0.25", "3", "1.0")] == [0.25, 0.25, 3, 1.0]
    for keep in (0, -1, 48, 0.0, 1.5):
        with pytest.raises(GodwitError, match="give a fraction of the layers"):
            num_kept(keep, 47)
    for text in ("a quarter", "1/0", "1/x"):
        with pytest.raises(GodwitError, match="give a fraction such as 1/4"):
            parse_keep(text)


def test_the_room_is_reached_from_the_package() -> None:
    assert godwit.indexcache.SearchResult is SearchResult
    with pytest.raises(AttributeError, match="has no attribute 'serch'"):
        _ = godwit.indexcache.serch
