"""The walk over plans, with states that are the plan's own beginning: what runs, what is kept, what is dropped."""

import itertools
import random

from godwit.indexcache.greedy import flip
from godwit.indexcache.walk import num_held, prune, spacing_for, walk


def run(plans: list[str], held: dict[str, str], spacing: int) -> tuple[int, dict[str, str]]:
    ends: dict[str, str] = {}

    def step(layer: int, state: str, own: bool) -> str:
        assert len(state) == layer, "a layer is entered with its own state"
        return state + ("F" if own else "S")

    ran = walk(plans, held, step=step, done=lambda plan, state: ends.__setitem__(plan, state), spacing=spacing)
    return ran, ends


def test_every_beginning_runs_once() -> None:
    plans = ["F" + "".join(rest) for rest in itertools.product("FS", repeat=5)]
    ran, ends = run(plans, {"": ""}, spacing=6)
    assert ends == {plan: plan for plan in plans}
    assert ran == len({plan[:depth] for plan in plans for depth in range(1, 7)})


def test_kept_states_are_the_right_ones_whatever_is_flipped() -> None:
    draw = random.Random(0)
    for spacing in (1, 2, 3, 7):
        plan, held, total = "F" * 7, {"": ""}, 0
        for _ in range(5):
            left = [layer for layer in range(1, 7) if plan[layer] == "F"]
            plans = [flip(plan, layer) for layer in left]
            ran, ends = run(plans, held, spacing)
            assert ends == {each: each for each in plans}
            assert all(state == prefix for prefix, state in held.items())
            total += ran
            plan = flip(plan, draw.choice(left))
            prune(held, plan)
            assert "" in held
            following = [flip(plan, layer) for layer in range(1, 7) if plan[layer] == "F"]
            assert all(any(each.startswith(prefix) for each in [plan, *following]) for prefix in held)
        assert total < 7 * (6 + 5 + 4 + 3 + 2)


def test_spacing_is_what_fits() -> None:
    plan, candidates = "F" * 12, range(1, 12)
    held: dict[str, str] = {"": ""}
    run([plan], held, 1)
    run([flip(plan, layer) for layer in candidates], held, 1)
    assert len(held) - 1 == num_held(plan, candidates, 1) == 66
    assert spacing_for(plan, candidates, state_bytes=10, budget=660) == 1
    assert spacing_for(plan, candidates, state_bytes=10, budget=659) == 2
    assert spacing_for(plan, candidates, state_bytes=10, budget=9) == 12
