"""Preference pairs out of a tree of plans, drafts and refinements whose leaves were scored: SuperWriter's DPO data.

    rank      1 for the best leaf of a query; equal scores share the better rank ("1224")
    pi        rank / N, N the number of scored leaves
    r         +2 if pi <= 1/6, +1 if <= 2/6, 0 if <= 4/6, -1 if <= 5/6, else -2
    draft     mean of r of its leaves
    plan      mean of its drafts (each counts once, however many leaves it has)

    pairs     plan    best over worst, best over second worst
              write   for the two best plans: best draft over worst draft
              refine  for the best draft of each: leaf of the highest score over leaf of the lowest
so six for a full tree. Equal values go by their order, the earlier one first. A leaf without a score (None) is no leaf,
a node without leaves no node; what two equal values, or one child alone, would give is no pair.

Source: SuperWriter (arXiv 2506.04180, section 3.3). `compat="code"` is the released notebook: ranks are ordinal (equal
scores are ranked by their order), and nodes are paired whatever their values, an only child with itself. (The notebook
also loses the prompts of write and refine, under a misspelled key; nothing here does.)

Values are exact fractions, so that equal ones are equal.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

from godwit.rewards import Compat

Step = Literal["plan", "write", "refine"]
Tree = Sequence[Sequence[Sequence[float | None]]]
"""Scores of leaves, by plan, draft and refinement."""
_STEPS = ((1, 2), (2, 1), (4, 0), (5, -1))  # pi up to so many sixths gives r; above, -2


class TreePair(NamedTuple):
    """A preference between two nodes, each named by its places from the root.

    Attributes:
        chosen, rejected: (plan,), (plan, draft) or (plan, draft, refinement).
        chosen_value, rejected_value: what they were compared by.
    """

    step: Step
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    chosen_value: float
    rejected_value: float


class _Node(NamedTuple):
    path: tuple[int, ...]
    value: Fraction


def rank_rewards(scores: Sequence[float], *, compat: Compat = "paper") -> list[int]:
    """r of each score, from +2 to -2; higher scores are better."""
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    rewards = [0] * len(scores)
    rank = 0
    for number, place in enumerate(order, start=1):
        if compat == "code" or number == 1 or scores[place] != scores[order[number - 2]]:
            rank = number
        rewards[place] = next((r for sixths, r in _STEPS if 6 * rank <= sixths * len(scores)), -2)
    return rewards


def node_values(tree: Tree, *, compat: Compat = "paper") -> dict[tuple[int, ...], float]:
    """Values of all plans (i,), drafts (i, j) and scored leaves (i, j, k; their r)."""
    return {node.path: float(node.value) for level in _levels(tree, compat) for node in level}


def tree_pairs(tree: Tree, *, compat: Compat = "paper") -> list[TreePair]:
    """The pairs of one query, by step; fewer than six for small trees, none if nothing can be told apart."""
    plans, drafts, _ = _levels(tree, compat)
    best_plans = _sorted(plans)
    pairs = _best_over("plan", best_plans, (-1, -2), compat)
    for plan in best_plans[:2]:
        siblings = _sorted([draft for draft in drafts if draft.path[:1] == plan.path])
        pairs += _best_over("write", siblings, (-1,), compat)
        i, j = siblings[0].path
        leaves = [_Node((i, j, k), Fraction(score)) for k, score in enumerate(tree[i][j]) if score is not None]
        pairs += _best_over("refine", _sorted(leaves), (-1,), compat)
    order = {"plan": 0, "write": 1, "refine": 2}
    return sorted(pairs, key=lambda pair: order[pair.step])


def _levels(tree: Tree, compat: Compat) -> tuple[list[_Node], list[_Node], list[_Node]]:
    scored = [
        ((i, j, k), score)
        for i, plan in enumerate(tree)
        for j, draft in enumerate(plan)
        for k, score in enumerate(draft)
        if score is not None
    ]
    rewards = rank_rewards([score for _, score in scored], compat=compat)
    leaves = [_Node(path, Fraction(reward)) for (path, _), reward in zip(scored, rewards)]
    drafts = _means(leaves)
    return _means(drafts), drafts, leaves


def _means(nodes: Sequence[_Node]) -> list[_Node]:
    """The parents of `nodes`, in their order."""
    children: dict[tuple[int, ...], list[Fraction]] = {}
    for node in nodes:
        children.setdefault(node.path[:-1], []).append(node.value)
    return [_Node(path, sum(values, Fraction(0)) / len(values)) for path, values in children.items()]


def _sorted(nodes: Sequence[_Node]) -> list[_Node]:
    return sorted(nodes, key=lambda node: -node.value)


def _best_over(step: Step, ranked: Sequence[_Node], places: Sequence[int], compat: Compat) -> list[TreePair]:
    """The first of `ranked` over those at `places` (from the end), where there are such and they differ."""
    pairs = []
    for place in places:
        if -place > len(ranked):
            continue
        best, other = ranked[0], ranked[place]
        if compat == "code" or best.value != other.value:
            pairs.append(TreePair(step, best.path, other.path, float(best.value), float(other.value)))
    return pairs
