import asyncio
import time

import pytest

from godwit.base.errors import RunStoppedError
from godwit.synth.pace import Breaker, Pace, backoff


def test_a_pace_spaces_what_it_lets_through() -> None:
    async def spent(pace: Pace, amounts: list[float]) -> float:
        start = time.monotonic()
        for amount in amounts:
            await pace.take(amount)
        return time.monotonic() - start

    # 600 a minute are 10 a second: a second's worth at once, then one each tenth of a second.
    assert asyncio.run(spent(Pace(600), [1] * 10)) < 0.2
    assert 0.35 < asyncio.run(spent(Pace(600), [1] * 15)) < 1.0
    assert asyncio.run(spent(Pace(None), [1e9] * 100)) < 0.2


def test_what_was_estimated_too_low_is_made_up_for() -> None:
    async def wait() -> float:
        pace = Pace(600)
        await pace.take(10)
        pace.correct(3)
        start = time.monotonic()
        await pace.take(1)
        return time.monotonic() - start

    assert 0.2 < asyncio.run(wait()) < 0.8


def test_the_breaker_opens_tries_one_at_a_time_and_closes() -> None:
    async def story() -> list[str]:
        breaker = Breaker("http://x", threshold=3, patience=60)
        said = []
        for _ in range(2):
            breaker.failed("down")
        assert not breaker.open and await breaker.enter() is False
        breaker.failed("down")
        assert breaker.open
        breaker._not_before = 0.0  # the pause is over

        async def caller(name: str) -> None:
            trying = await breaker.enter()
            said.append(f"{name} {'tries' if trying else 'goes on'}")
            await asyncio.sleep(0.02)
            if trying:
                breaker.succeeded()
            breaker.left(trying)

        await asyncio.gather(*(caller(name) for name in "abc"))
        return said

    assert asyncio.run(story()) == ["a tries", "b goes on", "c goes on"]


def test_patience_ends_with_a_message_that_says_how_to_go_on() -> None:
    async def story() -> None:
        breaker = Breaker("http://x/v1", threshold=2, patience=0.05)
        breaker.failed("refused")
        await asyncio.sleep(0.06)
        with pytest.raises(
            RunStoppedError, match=r"http://x/v1 has not answered.*refused; all answers so far are kept"
        ):
            breaker.failed("refused")
        with pytest.raises(RunStoppedError):
            await breaker.enter()  # and everybody else stops too

    asyncio.run(story())


def test_backoff_grows_and_jitters() -> None:
    assert all(0.5 <= backoff(0) <= 1.0 and 15 <= backoff(9) <= 30 for _ in range(50))
    assert len({backoff(3) for _ in range(20)}) > 10
