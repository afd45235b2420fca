"""Intervals and paired tests against values worked out or looked up."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from godwit.base.errors import GodwitError
from godwit.evals.metrics.intervals import binomial_interval, mean_interval, paired_difference, sign_test


def test_wilson_by_hand() -> None:
    # 8 of 10, z = 1.96: middle .8 + 3.8416/20 = .99208, half 1.96 sqrt(.016 + .009604) = .31363, scale 1.38416
    interval = binomial_interval(8, 10)
    assert interval.low == pytest.approx((0.99208 - 0.31363) / 1.38416, abs=1e-4)
    assert interval.high == pytest.approx((0.99208 + 0.31363) / 1.38416, abs=1e-4)


@given(st.integers(1, 600).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_stays_inside_and_around(pair: tuple[int, int]) -> None:
    hits, trials = pair
    interval = binomial_interval(hits, trials)
    assert 0 <= interval.low <= hits / trials <= interval.high <= 1


def test_mean_by_hand() -> None:
    # 1, 2, 3: variance 1, standard error 1/sqrt 3, t(0.975, 2) = 4.30265
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.standard_error == pytest.approx(1 / math.sqrt(3))
    assert found.interval is not None
    assert found.interval.high - 2 == pytest.approx(4.30265 / math.sqrt(3), abs=1e-4)
    assert mean_interval([5.0]).interval is None


def test_pairs() -> None:
    found = paired_difference([0, 0, 1, 1, 0], [1, 1, 1, 0, 1])
    assert (found.num_better, found.num_worse, found.num_equal) == (3, 1, 1)
    assert found.difference.mean == pytest.approx(0.4)
    assert found.sign_p == 0.625  # 2 * (C(4,0) + C(4,1)) / 16
    assert sign_test(0, 6) == 2 / 64
    assert sign_test(0, 0) == sign_test(3, 3) == 1.0


def test_nothing_to_average_is_an_error_that_says_where_to_look() -> None:
    for make in (lambda: mean_interval([]), lambda: binomial_interval(0, 0), lambda: paired_difference([1], [1, 2])):
        with pytest.raises(GodwitError):
            make()
