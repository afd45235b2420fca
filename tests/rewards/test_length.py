"""S_l and the range reward, worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from godwit.base.errors import GodwitError
from godwit.rewards.length import length_score, range_reward


@pytest.mark.parametrize(
    ("actual", "required", "expected"),
    [
        (1000, 1000, 100.0),
        (2000, 1000, 100 * (1 - 1 / 3)),  # twice as long: excess 1, slope 1/3
        (4000, 1000, 0.0),  # four times: excess 3
        (9000, 1000, 0.0),
        (500, 1000, 50.0),  # half: 1000/500 - 1 = 1, slope 1/2
        (800, 1000, 87.5),  # 1000/800 - 1 = 0.25; 1 - 0.125
        (333, 1000, 0.0),  # a third and less
        (0, 1000, 0.0),  # divides by zero in the released code
        (1, 1, 100.0),
    ],
)
def test_the_papers_length_score(actual: int, required: int, expected: float) -> None:
    assert length_score(actual, required) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (2000, 50.0),  # excess 1, slope 1/2: the long side is the strict one in the code for LongWriter-V
        (500, 100 * (1 - 1 / 3)),  # and the short side the lenient one
        (250, 0.0),  # 1000/250 - 1 = 3
        (3000, 0.0),
        (1000, 100.0),
        (0, 0.0),  # counted as 2 words: 1000/2 - 1 = 499
    ],
)
def test_the_codes_slopes_are_swapped(actual: int, expected: float) -> None:
    assert length_score(actual, 1000, compat="code") == pytest.approx(expected)


def test_the_codes_floor_of_two_words_shows_for_tiny_targets() -> None:
    assert length_score(1, 4, compat="code") == length_score(2, 4, compat="code") == pytest.approx(100 * (1 - 1 / 3))


@given(st.integers(0, 10**9), st.integers(1, 10**6))
def test_it_stays_between_0_and_100(actual: int, required: int) -> None:
    assert 0 <= length_score(actual, required) <= 100
    assert 0 <= length_score(actual, required, compat="code") <= 100


@pytest.mark.parametrize("pair", [(10, 0), (-1, 5)])
def test_lengths_are_counts(pair: tuple[int, int]) -> None:
    with pytest.raises(GodwitError, match="lengths are counts"):
        length_score(*pair)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [(0, 0.0), (50, 0.5), (100, 1.0), (200, 1.0), (250, 0.5), (300, 0.0), (400, 0.0)],  # (300-250)/(300-200)
)
def test_the_range_reward(actual: int, expected: float) -> None:
    assert range_reward(actual, 100, 200, 300) == expected


def test_a_range_must_be_one() -> None:
    with pytest.raises(GodwitError, match="low <= high < longest"):
        range_reward(10, 200, 100, 300)
