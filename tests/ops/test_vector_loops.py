"""The compiled loops that others are made of, at lengths with and without a rest behind the last whole vector."""

import numpy as np
import pytest

from godwit.ops._gathered import add_rows, dots
from godwit.ops._numba import numba
from godwit.ops._places import PAD, places
from godwit.ops._softmax import exponentials, largest, softmax

LENGTHS = (1, 7, 15, 16, 17, 32, 45, 64, 96, 131)


@numba.njit
def _largest(x, n):
    return largest(x, n)


@numba.njit
def _exponentials(x, n, top):
    return exponentials(x, n, top)


@numba.njit
def _dots(x, rows, place, n, scale, result):
    dots(x, rows, place, n, scale, result)


@numba.njit
def _add_rows(weight, rows, place, n, result):
    add_rows(weight, rows, place, n, result)


@pytest.mark.parametrize("length", LENGTHS)
def test_the_largest_is_found_wherever_it_stands(length: int) -> None:
    x = -np.arange(1, length + 9, dtype=np.float32)
    x[length:] = 5
    for place in range(length):
        y = x.copy()
        y[place] = 3
        assert _largest(y, length) == 3


@pytest.mark.parametrize("length", LENGTHS)
def test_exponentials_are_right_and_stop_where_told(length: int) -> None:
    x = np.random.default_rng(0).uniform(-80, 0, length + 5).astype(np.float32) + np.float32(2)
    x[0] = 2
    given, expected = x.copy(), np.exp(x[:length].astype(np.float64) - 2)
    total = _exponentials(x, length, np.float32(2))
    np.testing.assert_allclose(x[:length], expected, rtol=2e-6)
    np.testing.assert_array_equal(x[length:], given[length:])
    assert total == pytest.approx(expected.sum(), rel=1e-6)


def test_exponentials_keep_what_is_no_number_and_end_small_ones_at_e_to_the_minus_87() -> None:
    x = np.array([0, np.nan, -np.inf, -300, 4], np.float32)
    _exponentials(x, 5, np.float32(0))
    assert x[0] == 1 and np.isnan(x[1]) and x[4] == 1
    assert x[2] == x[3] == pytest.approx(np.exp(-87), rel=1e-5)


@pytest.mark.parametrize("length", LENGTHS)
def test_softmax_sums_to_one_and_returns_its_log_sum_exp(length: int) -> None:
    x = np.random.default_rng(1).normal(size=length).astype(np.float32)
    lse = np.log(np.exp(x.astype(np.float64)).sum())
    expected = np.exp(x.astype(np.float64) - lse)
    assert softmax(x, length) == pytest.approx(lse, abs=1e-5)
    np.testing.assert_allclose(x, expected, rtol=1e-5)


@pytest.mark.parametrize("width", LENGTHS)
@pytest.mark.parametrize("count", (1, 5, 16, 37))
def test_products_with_scattered_rows(width: int, count: int) -> None:
    rng = np.random.default_rng(width)
    x, rows = rng.normal(size=width).astype(np.float32), rng.normal(size=(50, width)).astype(np.float32)
    index = np.full(count + 3, -1, np.int32)
    index[1 : count + 1] = chosen = rng.choice(50, count, replace=False)
    place = np.zeros(len(index) + PAD, np.int64)
    assert places(index, place) == count
    found = np.full(count + PAD, 9, np.float32)
    _dots(x, rows, place, count, np.float32(0.5), found)
    np.testing.assert_allclose(found[:count], 0.5 * rows[chosen] @ x, rtol=1e-5, atol=1e-5)
    found[count:] = 0
    result = x.copy()
    _add_rows(found, rows, place, count, result)
    np.testing.assert_allclose(result, x + found[:count] @ rows[chosen], rtol=1e-4, atol=1e-4)
