"""The k best of a row in compiled loops: ties, signs, zeros, any length; and the moves that it is made of."""

import numpy as np
import pytest

from godwit.ops._numba import numba
from godwit.ops.index_topk._best import cut, kth_largest, sortable
from godwit.ops.index_topk._pack import PANEL, keep, number_panel, pack, reaching, room_for

KINDS = ("random", "positive", "close together", "few values", "one value", "zeros of both signs", "infinite")


@numba.njit
def _cut(score, place, slot, n, k, key):
    return cut(score, place, slot, n, k, key)


@numba.njit
def _kth(score, n, k, key):
    sortable(score, n, key)
    return kth_largest(key, n, k), (key[:n] >= kth_largest(key, n, k)).sum()


@numba.njit
def _pack(source, at, bits, target, slot, n):
    return pack(source, at, bits, target, slot, n)


@numba.njit
def _keep(fresh, first, above, score, place, slot, n):
    here = np.empty(PANEL, np.int32)
    number_panel(first, here)
    return keep(fresh, here, above, score, place, slot, n)


@numba.njit
def _reaching(key, at, least):
    return reaching(key, at, least)


@numba.njit
def _room(width):
    return room_for(width)


def scores(kind: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    x = rng.standard_normal(n).astype(np.float32)
    return {
        "random": x,
        "positive": np.abs(x),
        "close together": 3 + x * np.float32(1e-5),
        "few values": np.round(x),
        "one value": np.full(n, -2.5, np.float32),
        "zeros of both signs": np.where(x > 0, np.float32(0.0), np.float32(-0.0)),
        "infinite": np.where(np.abs(x) > 1, np.copysign(np.float32(np.inf), x), x),
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", (1, 2, PANEL - 1, PANEL, PANEL + 1, 3 * PANEL + 17, 20 * PANEL))
def test_cut_keeps_the_best_in_order_and_of_equals_the_first(kind: str, n: int) -> None:
    x = scores(kind, n)
    for k in sorted({1, n // 3, n // 2, n - 1, n} - {0}):
        room = -(-n // PANEL) * PANEL + PANEL
        score, place = np.full((2, room), np.nan, np.float32), np.full((2, room), -1, np.int32)
        score[1, :n], place[1, :n] = x, np.arange(100, 100 + n)
        least = _cut(score, place, 1, n, k, np.full(room, 0x7FFFFFFF, np.int32))
        kept = np.sort(np.argsort(-x, kind="stable")[:k])
        np.testing.assert_array_equal(place[1, :k], kept + 100)
        np.testing.assert_array_equal(score[1, :k], x[kept])
        assert least == x[kept].min()
        assert (place[0] == -1).all(), "another row was written"


@pytest.mark.parametrize("kind", KINDS)
def test_the_kth_largest_is_reached_by_k(kind: str) -> None:
    x = scores(kind, 333)
    for k in (1, 2, 100, 332, 333):
        kth, number = _kth(x.copy(), 333, k, np.empty(333, np.int32))
        exact = np.sort(x)[-k]
        assert number == max(k, (x >= exact).sum()), (k, kth)


def test_pack_moves_the_chosen_also_within_a_row() -> None:
    rng = np.random.default_rng(0)
    for chosen in (np.zeros(PANEL, bool), np.ones(PANEL, bool), *(rng.random((20, PANEL)) < 0.4)):
        bits = np.uint64(sum(1 << place for place, is_chosen in enumerate(chosen) if is_chosen))
        row = rng.standard_normal(5 * PANEL).astype(np.float32)
        for n in (0, 3, PANEL):
            target = np.zeros((3, 5 * PANEL), np.float32)
            assert _pack(row, PANEL, bits, target, 2, n) == n + chosen.sum()
            expected = row[PANEL : 2 * PANEL][chosen]
            np.testing.assert_array_equal(target[2, n : n + chosen.sum()], expected)
            target[2] = row
            _pack(target[2], PANEL, bits, target, 2, n)
            np.testing.assert_array_equal(target[2, n : n + chosen.sum()], expected)
            np.testing.assert_array_equal(target[2, 2 * PANEL :], row[2 * PANEL :])


def test_keep_takes_scores_with_their_positions() -> None:
    fresh = np.arange(PANEL, dtype=np.float32) * 2
    score, place = np.zeros((1, 3 * PANEL), np.float32), np.zeros((1, 3 * PANEL), np.int32)
    assert _keep(fresh, 1000, np.uint64(0b10110), score, place, 0, 5) == 8
    assert place[0, 5:8].tolist() == [1001, 1002, 1004] and score[0, 5:8].tolist() == [2, 4, 8]


def test_reaching_compares_signed_whole_numbers() -> None:
    key = np.random.default_rng(0).integers(-(2**31), 2**31, 2 * PANEL, dtype=np.int64).astype(np.int32)
    for least in (np.int32(0), key[PANEL + 3], np.int32(-(2**31)), np.int32(2**31 - 1)):
        bits = int(_reaching(key, PANEL, least))
        assert [bool(bits >> place & 1) for place in range(PANEL)] == (key[PANEL:] >= least).tolist()


def test_a_row_has_room_in_whole_panels() -> None:
    for width in (1, 100, 256, 300, 2048):
        room = _room(width)
        assert room % PANEL == 0 and max(4 * width, 1024) <= room < max(4 * width, 1024) + PANEL
