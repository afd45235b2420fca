"""Worked out by hand from SuperWriter's definitions."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from godwit.rewards.preference_tree import node_values, rank_rewards, tree_pairs


def test_sixty_leaves_fall_into_10_10_20_10_10() -> None:
    rewards = rank_rewards(list(range(60)))
    assert [rewards.count(r) for r in (2, 1, 0, -1, -2)] == [10, 10, 20, 10, 10]
    assert rewards[59] == 2 and rewards[50] == 2 and rewards[49] == 1 and rewards[9] == -2 and rewards[10] == -1
    # The code's 5 x 4 x 2: 40/6 = 6.67, 13.33, 26.67, 33.33.
    assert [rank_rewards(list(range(40))).count(r) for r in (2, 1, 0, -1, -2)] == [6, 7, 13, 7, 7]


def test_six_leaves_and_fewer() -> None:
    assert rank_rewards([60, 50, 40, 30, 20, 10]) == [2, 1, 0, 0, -1, -2]
    assert rank_rewards([1, 2, 3]) == [-2, 0, 1]  # pi = 1, 2/3, 1/3
    assert rank_rewards([1, 2]) == [-2, 0] and rank_rewards([5]) == [-2] and rank_rewards([]) == []


def test_ties_share_the_better_rank_in_the_paper_and_go_by_order_in_the_code() -> None:
    scores = [9.0, 9, 9, 1, 1, 1]  # competition ranks 1 1 1 4 4 4, ordinal 1 2 3 4 5 6
    assert rank_rewards(scores) == [2, 2, 2, 0, 0, 0]
    assert rank_rewards(scores, compat="code") == [2, 1, 0, 0, -1, -2]
    assert rank_rewards([3, 3, 3, 3, 3, 3]) == [2] * 6


TREE = [  # 3 plans x 2 drafts x 2 refinements, scores 12 (best) to 1: r = 2 2 1 1 0 0 0 0 -1 -1 -2 -2
    [[12, 9], [1, 2]],
    [[11, 10], [8, 7]],
    [[6, 5], [3, 4]],
]


def test_averages() -> None:
    values = node_values(TREE)
    assert values[(0, 0, 0)] == 2 and values[(0, 0, 1)] == 1 and values[(0, 1, 0)] == -2
    assert values[(0, 0)] == 1.5 and values[(0, 1)] == -2 and values[(0,)] == -0.25
    assert values[(1, 0)] == 1.5 and values[(1, 1)] == 0 and values[(1,)] == 0.75
    assert values[(2, 0)] == 0 and values[(2, 1)] == -1 and values[(2,)] == -0.5


def test_six_pairs() -> None:
    assert tree_pairs(TREE) == [
        ("plan", (1,), (2,), 0.75, -0.5),
        ("plan", (1,), (0,), 0.75, -0.25),
        ("write", (1, 0), (1, 1), 1.5, 0.0),
        ("write", (0, 0), (0, 1), 1.5, -2.0),
        ("refine", (1, 0, 0), (1, 0, 1), 11.0, 10.0),
        ("refine", (0, 0, 0), (0, 0, 1), 12.0, 9.0),
    ]


def test_a_plan_counts_its_drafts_alike_however_many_leaves_they_have() -> None:
    values = node_values([[[6, 5, 4], [1]], [[3, 2]]])  # r: 2 1 0 | -2 | 0 -1
    assert values[(0, 0)] == 1 and values[(0, 1)] == -2 and values[(0,)] == -0.5 and values[(1,)] == -0.5


def test_only_children_give_no_pair_with_themselves_but_in_the_code() -> None:
    assert tree_pairs([[[5.0]]]) == []
    alone = tree_pairs([[[5.0]]], compat="code")
    assert [(pair.step, pair.chosen == pair.rejected) for pair in alone] == [
        ("plan", True),
        ("write", True),
        ("refine", True),
    ]
    # Two plans: the second worst is the best itself.
    two = tree_pairs([[[2.0]], [[1.0]]])
    assert [(pair.step, pair.chosen, pair.rejected) for pair in two] == [("plan", (0,), (1,))]
    assert [pair[:3] for pair in tree_pairs([[[2.0, 1.0]]])] == [("refine", (0, 0, 0), (0, 0, 1))]
    assert [pair[:3] for pair in tree_pairs([[[1.0], [2.0]]])] == [("write", (0, 1), (0, 0))]


def test_leaves_without_a_score_are_none() -> None:
    holes = [[[None, 4.0], [None]], [[None], [3.0, 1.0]], [[None, None]]]
    assert set(node_values(holes)) == {(0,), (0, 0), (0, 0, 1), (1,), (1, 1), (1, 1, 0), (1, 1, 1)}
    assert [pair[:3] for pair in tree_pairs(holes)] == [
        ("plan", (0,), (1,)),
        ("refine", (1, 1, 0), (1, 1, 1)),
    ]
    assert tree_pairs([[[None]]]) == [] and tree_pairs([]) == []


@pytest.mark.parametrize("shape", list(itertools.product((1, 2, 3, 5), (1, 2, 4), (1, 2, 3))))
def test_every_size(shape: tuple[int, int, int]) -> None:
    plans, drafts, leaves = shape
    total = plans * drafts * leaves
    # 7 is coprime to every total but multiples of 7, of which there are none: all scores differ.
    scores = iter((7 * number) % total for number in range(total))
    tree = [[[float(next(scores)) for _ in range(leaves)] for _ in range(drafts)] for _ in range(plans)]
    pairs = tree_pairs(tree)
    most = min(plans - 1, 2) + (min(plans, 2) if drafts > 1 else 0) + (min(plans, 2) if leaves > 1 else 0)
    assert len(pairs) <= most and all(pair.chosen_value > pair.rejected_value for pair in pairs)
    assert sum(pair.step == "refine" for pair in pairs) == (min(plans, 2) if leaves > 1 else 0)


@given(st.lists(st.lists(st.lists(st.none() | st.integers(1, 4), max_size=3), max_size=3), max_size=4))
def test_pairs_of_any_tree(tree: list[list[list[int | None]]]) -> None:
    pairs = tree_pairs(tree)
    assert len(pairs) <= 6 and len({pair[:3] for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert pair.chosen[:-1] == pair.rejected[:-1] and pair.chosen != pair.rejected
        assert pair.chosen_value > pair.rejected_value
