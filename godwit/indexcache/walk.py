"""Evaluate many plans with each layer run once for each distinct beginning.

What enters layer l under a plan depends on the plan's first l letters only. So plans form a tree: plans that begin
alike share the layers they have in common, whether they are candidates of one step (all flip another layer of the same
plan) or of different steps (a candidate before the layer that was flipped last is the same model up to that layer).
`walk` runs plans in such an order that only a fork's state has to stay at hand, and takes and leaves states of earlier
calls in `held`. It does not know what a state is: the search counts its work by walking with empty states.

    N layers, candidates R, plan c, last flip f:
    whole forward passes        |R| N                       layers a step
    one step's beginnings       N + sum_R (N - l)
    and those of the last step  sum_R (N - max(l, f))       where every state is held
"""

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import TypeVar

State = TypeVar("State")


def walk(
    plans: Iterable[str],
    held: MutableMapping[str, State],
    *,
    step: Callable[[int, State, bool], State],
    done: Callable[[str, State], None],
    spacing: int,
) -> int:
    """Run every plan to its end; returns how many layers ran.

    Args:
        plans: patterns of one length; each is run once.
        held: states by the beginning of the plan that leads to them; "" (before layer 0) must be there.
        step: runs one layer: its number, the state entering it, whether it is F; returns the state behind it.
        done: receives each plan with its last state.
        spacing: states in front of every so many layers are put into `held`; the number of layers keeps none.
    """
    # With S before F the path along the common plan comes last at every fork: one fork is open at a time.
    ordered = sorted(set(plans), reverse=True)
    ran = 0
    trail: dict[int, State] = {}
    for place, plan in enumerate(ordered):
        shared = [_common(plan, later) for later in ordered[place + 1 :]]
        depth = max(n for n in range(len(plan)) if n in trail or plan[:n] in held)
        state = trail[depth] if depth in trail else held[plan[:depth]]
        for layer in range(depth, len(plan)):
            state = step(layer, state, plan[layer] == "F")
            ran += 1
            behind = layer + 1
            if behind in shared:
                trail[behind] = state
            if behind % spacing == 0 and behind < len(plan):
                held[plan[:behind]] = state
        done(plan, state)
        furthest = shared[0] if shared else 0
        trail = {depth: state for depth, state in trail.items() if depth <= furthest}
    return ran


def prune(held: MutableMapping[str, State], plan: str) -> None:
    """Drop states that no plan with one flip more than `plan` can begin with."""
    for prefix in list(held):
        flips = [own + kept for own, kept in zip(plan, prefix)]
        if "SF" in flips or flips.count("FS") > 1:
            del held[prefix]


def num_held(plan: str, candidates: Sequence[int], spacing: int) -> int:
    """How many states one row's walk over the first step's candidates leaves in `held`."""
    depths = range(spacing, len(plan), spacing)
    return len(depths) + sum(depth > layer for layer in candidates for depth in depths)


def spacing_for(plan: str, candidates: Sequence[int], *, state_bytes: int, budget: int) -> int:
    """The least spacing whose states fit into `budget` bytes; the number of layers (keep none) if no other does."""
    for spacing in range(1, len(plan)):
        if num_held(plan, candidates, spacing) * state_bytes <= budget:
            return spacing
    return len(plan)


def _common(a: str, b: str) -> int:
    """How many letters two plans begin with alike."""
    return next((place for place, pair in enumerate(zip(a, b)) if pair[0] != pair[1]), len(a))
