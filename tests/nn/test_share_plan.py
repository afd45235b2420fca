"""Sharing plans: the engines' rules and what is refused."""

import pytest

from godwit.base.errors import GodwitError
from godwit.nn.share_plan import SharePlan


@pytest.mark.parametrize(
    ("freq", "offset", "pattern"),
    [
        (1, 2, "FFFFFFFF"),
        (4, 2, "FFSSSFSS"),
        (4, 1, "FSSSFSSS"),
        (4, 3, "FFFSSSFS"),
        (2, 2, "FFSFSFSF"),
        (8, 1, "FSSSSSSS"),
    ],
)
def test_uniform_rule(freq: int, offset: int, pattern: str) -> None:
    assert SharePlan.from_freq(8, freq, offset).pattern == pattern


def test_glm_52_has_21_full_layers() -> None:
    plan = SharePlan.from_freq(78, 4, 3)
    assert [n for n in range(78) if plan.is_full(n)] == [0, 1, *range(2, 78, 4)]
    assert plan.num_full == 21


def test_letters_and_words_are_the_same_plan() -> None:
    plan = SharePlan.parse(["full", "shared", "full"], 3)
    assert plan == SharePlan.parse("FSF", 3) == SharePlan.parse(plan, 3)
    assert plan.types == ("full", "shared", "full")
    assert str(plan) == "FSF"


@pytest.mark.parametrize(
    ("value", "layers", "message"),
    [
        ("SFF", 3, "must begin with F"),
        ("FXF", 3, "got 'X'"),
        (["full", "half"], 2, "got 'half'"),
        ("FS", 3, "has 2 letters and the model 3 layers"),
        ("", 0, "written with F and S"),
    ],
)
def test_plans_that_are_refused(value, layers: int, message: str) -> None:
    with pytest.raises(GodwitError, match=message):
        SharePlan.parse(value, layers)


def test_frequency_of_zero_is_refused() -> None:
    with pytest.raises(GodwitError, match="at least 1"):
        SharePlan.from_freq(4, 0)


def test_how_many_layers_a_selection_serves() -> None:
    plan = SharePlan("FFSSFS")
    assert [plan.num_served(layer) for layer in range(6)] == [1, 3, 3, 3, 2, 2]


def test_uniform_plans_are_written_as_a_fraction() -> None:
    assert str(SharePlan.named("1/4", 10)) == "FSSSFSSSFS"
    assert str(SharePlan.named("1/1", 3)) == "FFF"
    assert str(SharePlan.named("FSF", 3)) == "FSF"
    for wrong in ("1/0", "2/4", "1/x", "/"):
        with pytest.raises(GodwitError, match="written 1/n"):
            SharePlan.named(wrong, 10)


def test_groups_are_the_layers_each_indexer_serves() -> None:
    groups = SharePlan("FSSFFS").groups
    assert [list(group) for group in groups] == [[0, 1, 2], [3], [4, 5]]


@pytest.mark.parametrize("num_layers", [1, 2, 5, 8, 13])
def test_uniform_plans_know_their_frequency_and_offset(num_layers: int) -> None:
    """Every plan a rule can make is recognised, and no other: all plans of a length against all rules."""
    made = {
        SharePlan.from_freq(num_layers, freq, offset).pattern
        for freq in range(1, num_layers + 2)
        for offset in range(1, num_layers + 2)
    }
    for bits in range(2 ** (num_layers - 1)):
        pattern = "F" + "".join("S" if bits >> n & 1 else "F" for n in range(num_layers - 1))
        found = SharePlan(pattern).freq_and_offset
        assert (found is not None) == (pattern in made), pattern
        if found is not None:
            assert SharePlan.from_freq(num_layers, *found).pattern == pattern
