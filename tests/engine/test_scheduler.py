"""Whatever comes and goes in whatever order: no page is lost or used twice, everybody is served, the first first."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from godwit.engine.config import EngineConfig
from godwit.engine.params import SamplingParams
from godwit.engine.prefix import PrefixCache
from godwit.engine.request import Choice, Request
from godwit.engine.scheduler import Scheduler
from godwit.engine.text import OutputText
from godwit.nn.cache import Cache
from godwit.nn.pages import PAGE
from tests.engine.tiny import tokenizer

NUM_PAGES = 6


@dataclass
class World:
    """A scheduler over pages without tensors, and a model that needs none: its tokens are 0, 1, 2, ..."""

    scheduler: Scheduler
    arrivals: int = 0

    @classmethod
    def of(cls, *, prefix: bool = True, **settings: object) -> "World":
        cache = Cache([], num_pages=NUM_PAGES, plan=None)
        config = EngineConfig(**({"max_num_seqs": 3, "max_num_batched_tokens": 300} | settings))
        return cls(Scheduler(cache, prefix=PrefixCache(cache.pages) if prefix else None, config=config, replay=4))

    def add(self, length: int, new: int, priority: int = 0, kind: int = 0) -> Choice:
        self.arrivals += 1
        limit = min(length + new, NUM_PAGES * PAGE)
        request = Request(str(self.arrivals), (kind,) * length, SamplingParams(), limit, {}, (priority, self.arrivals))
        text = OutputText(tokenizer=tokenizer(), stop=(), include_stop=False, skip_special=True)
        choice = Choice(request, 0, 0, text, None, [kind] * length)
        self.scheduler.add(choice)
        return choice

    def step(self, num_drafts: int = 0) -> list[Choice]:
        """Compute, sample, accept all drafts but the last; returns who is done."""
        done, works, pages = [], self.scheduler.schedule(), self.scheduler.cache.pages
        for work in works:
            choice = work.choice
            assert choice.sequence is not None and choice.sequence.length == work.start and work.num_tokens > 0
            assert len(choice.sequence.pages) * PAGE >= work.start + work.num_tokens
            choice.sequence.length += work.num_tokens
            if not work.samples:
                assert choice.num_computed < len(choice.token_ids)
                continue
            assert choice.num_computed == len(choice.token_ids) + work.num_drafts
            if choice.num_output == 0:
                self.scheduler.prompt_done(choice)
            for _ in range(max(1, work.num_drafts)):
                choice.token_ids.append(choice.num_output)
            pages.truncate(choice.sequence, min(choice.num_computed, len(choice.token_ids) - 1))
            choice.drafts = [0] * num_drafts
            assert len(choice.token_ids) <= choice.request.max_length
            if len(choice.token_ids) == choice.request.max_length:
                self.scheduler.remove(choice)
                done.append(choice)
        self.check()
        return done

    def check(self) -> None:
        scheduler, pages = self.scheduler, self.scheduler.cache.pages
        assert len(scheduler.running) <= scheduler.config.max_num_seqs
        assert [one.order for one in scheduler.running] == sorted(one.order for one in scheduler.running)
        assert all(one.sequence is not None for one in scheduler.running)
        assert all(one.sequence is None for one in scheduler.waiting)
        users = [0] * NUM_PAGES
        for one in scheduler.running:
            for page in one.sequence.pages:
                users[page] += 1
        held = 0 if scheduler.prefix is None else scheduler.prefix.num_pages
        assert sum(pages.num_users(page) for page in range(NUM_PAGES)) == sum(users) + held
        assert all(pages.num_users(page) >= users[page] for page in range(NUM_PAGES))
        assert pages.num_free == sum(pages.num_users(page) == 0 for page in range(NUM_PAGES))

    def finish(self) -> None:
        """Everything ends, in no more steps than one token each would take; then all pages are free."""
        scheduler, steps = self.scheduler, 0
        while scheduler.running or scheduler.waiting:
            self.step()
            steps += 1
            assert steps < 40_000, "no progress"
        if scheduler.prefix is not None:
            scheduler.prefix.clear()
        assert scheduler.cache.pages.num_free == NUM_PAGES


ADD = st.tuples(st.just("add"), st.integers(1, 900), st.integers(1, 30), st.integers(-1, 1), st.integers(0, 1))
STEP = st.tuples(st.just("step"), st.integers(0, 3))
ABORT = st.tuples(st.just("abort"), st.integers(0, 5))


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.one_of(ADD, STEP, STEP, ABORT), max_size=30),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 100, 600]),
)
def test_any_order_of_adding_stepping_and_aborting(actions: list, prefix: bool, exact: bool, budget: int) -> None:
    world = World.of(prefix=prefix, deterministic=exact, max_num_batched_tokens=budget)
    for action, *values in actions:
        if action == "add":
            world.add(*values)
        elif action == "step":
            world.step(values[0])
        else:
            there = [*world.scheduler.running, *world.scheduler.waiting]
            if there:
                world.scheduler.remove(there[values[0] % len(there)])
        world.check()
    world.finish()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 900), st.integers(0, 2)), min_size=2, max_size=8))
def test_equal_work_ends_in_the_order_of_the_line(requests: list[tuple[int, int]]) -> None:
    """One seat: by priority, then arrival."""
    world = World.of(max_num_seqs=1)
    choices = [world.add(length, 3, priority) for length, priority in requests]
    done: list[Choice] = []
    while len(done) < len(choices):
        done += world.step()
    assert done == sorted(choices, key=lambda one: one.order)


def test_a_long_prompt_does_not_hold_up_those_who_sample() -> None:
    world = World.of(max_num_batched_tokens=64)
    short = world.add(5, 50)
    world.step()
    world.add(1200, 5, priority=-1)
    for _ in range(10):
        before = short.num_output
        world.step()
        assert short.num_output == before + 1


def test_who_begins_like_a_prompt_in_work_waits_for_it_and_takes_all_of_it() -> None:
    world = World.of(max_num_batched_tokens=2000)
    first, same, other = world.add(2 * PAGE + 50, 5), world.add(2 * PAGE + 20, 5), world.add(30, 5, kind=1)
    world.step()
    assert (first.num_output, other.num_output, same.sequence) == (1, 1, None)
    world.step()
    # All but the token that the next one is sampled behind: two pages of the tree, and rows of the first one's third.
    assert (same.num_output, same.num_cached) == (1, 2 * PAGE + 19)
    world.finish()


@pytest.mark.parametrize(("priority", "waits"), [(0, True), (1, False)])
def test_nobody_waits_for_a_prompt_of_lower_priority(priority: int, waits: bool) -> None:
    world = World.of(max_num_batched_tokens=400)
    first = world.add(500, 5, priority)
    world.step()
    same = world.add(600, 5)
    world.step()
    assert first.num_output == 1 and (same.sequence is None) == waits
    world.finish()


def test_the_last_in_line_gives_way_and_comes_back() -> None:
    world = World.of(prefix=False)
    first, last = world.add(3 * PAGE - 2, 20), world.add(3 * PAGE - 2, 20, kind=1)
    while world.scheduler.preemptions == 0:
        world.step()
    assert world.scheduler.running == [first] and world.scheduler.waiting == [last]
    world.finish()
    assert last.num_output == 20


@pytest.mark.parametrize("seats", [1, 3])
def test_a_higher_priority_takes_a_seat_or_pages(seats: int) -> None:
    world = World.of(max_num_seqs=seats, prefix=False, max_num_batched_tokens=2000)
    low = [world.add(500, 50) for _ in range(3)]
    world.step()
    high = world.add(900, 5, priority=-1)
    world.step()
    assert high in world.scheduler.running and low[-1] in world.scheduler.waiting
    world.finish()


def test_equal_priorities_do_not_chase_each_other_away() -> None:
    world = World.of(max_num_seqs=1)
    first = world.add(10, 50)
    world.step()
    world.add(10, 50)
    world.step()
    assert world.scheduler.running == [first] and world.scheduler.preemptions == 0
