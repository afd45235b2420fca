"""Moves behind a search: against every plan of the same size, and on from a search that was finished without them."""

from pathlib import Path

import pytest

from godwit.indexcache.refine import moves
from godwit.indexcache.result import SearchResult
from godwit.indexcache.searching import search
from tests.indexcache.test_search import NUM_LAYERS, plain_losses, tiny
from tests.indexcache.tiny import tokens


def refined(keep: int, **options: object) -> SearchResult:
    return search(tiny(), tokens(), keep=keep, refine=True, **options)


def test_moves_keep_each_indexer_between_its_neighbours() -> None:
    assert moves("FSSFS", range(1, 5)) == ["FFSSS", "FSFSS", "FSSSF"]
    assert moves("FSSFS", [1, 3]) == ["FFSSS"], "only movable layers take part"
    assert moves("FFFF", range(1, 4)) == moves("FSSS", ()) == []


@pytest.mark.parametrize("keep", [2, 3, 4, 5])
def test_no_move_is_left_that_would_lower_the_loss(keep: int) -> None:
    losses, found = plain_losses(), refined(keep)
    assert found.refined is not None and found.refined.num_full == found.plan.num_full == keep
    pattern = found.plan_at(keep).pattern
    assert pattern == found.refined.pattern
    assert found.loss_at(keep) == pytest.approx(losses[pattern], rel=1e-6)
    assert losses[pattern] <= losses[found.plan_after(len(found.order)).pattern]
    assert losses[pattern] <= min(losses[move] for move in moves(pattern, range(1, NUM_LAYERS)))
    assert all(losses[pattern] <= each.loss + 1e-6 for each in found.baselines if each.num_full == keep)
    assert found.plan_at(keep + 1) == found.plan_after(len(found.order) - 1), "other sizes are the search's"


def test_some_greedy_plan_is_not_the_best_of_its_size() -> None:
    better = [keep for keep in (2, 3, 4, 5) if refined(keep).loss_at(keep) < refined(keep).losses[-1] - 1e-6]
    assert better, "else these tests show nothing"


def test_a_finished_search_is_refined_from_its_journal(tmp_path: Path) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    refined(3, out=once)
    plain = search(tiny(), tokens(), keep=3, out=twice)
    before = (twice / "journal.jsonl").read_bytes()
    assert plain.refined is None
    refined(3, out=twice)
    assert (twice / "journal.jsonl").read_bytes().startswith(before)
    for name in ("journal.jsonl", "search.json"):
        assert (twice / name).read_bytes() == (once / name).read_bytes(), name
    assert SearchResult.load(once).refined == refined(3).refined
