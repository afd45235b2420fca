"""Streams for asyncio: deltas arrive, who leaves frees pages, who asks too late is told, nobody waits for ever."""

import asyncio

import pytest

from godwit.base.errors import GodwitError
from godwit.engine.async_engine import AsyncEngine
from godwit.engine.params import SamplingParams
from tests.engine.tiny import engine_of, model_of, prompt_of, run

LONG = SamplingParams(max_tokens=1500, seed=1, ignore_eos=True)
SHORT = SamplingParams(n=2, max_tokens=8, seed=1, ignore_eos=True)


def engine() -> AsyncEngine:
    return AsyncEngine(engine_of(model_of("flash")))


async def tokens_of(engine: AsyncEngine, prompt: list[int], params: SamplingParams) -> list[list[int]]:
    choices: list[list[int]] = [[] for _ in range(params.n)]
    async for delta in engine.stream(prompt, params):
        choices[delta.index] += delta.token_ids
    return choices


async def idle(engine: AsyncEngine) -> bool:
    for _ in range(100):
        stats = await engine.stats()
        if stats.num_running == stats.num_waiting == 0:
            return stats.num_free_pages == stats.num_pages
        await asyncio.sleep(0.02)
    return False


def test_many_streams_at_once_are_those_of_the_engine() -> None:
    prompts = [prompt_of(n, seed=n) for n in (5, 40, 280)]

    async def main() -> list[list[list[int]]]:
        there = engine()
        try:
            return await asyncio.gather(*(tokens_of(there, prompt, SHORT) for prompt in prompts))
        finally:
            await there.close()

    expected = [
        [list(choice.token_ids) for choice in output.outputs]
        for output in run(engine_of(model_of("flash")), prompts, SHORT)
    ]
    assert asyncio.run(main()) == expected


@pytest.mark.parametrize("how", ["break", "cancel", "cancel at once", "abort"])
def test_who_leaves_frees_pages(how: str) -> None:
    async def main() -> None:
        there = engine()
        if how == "break":
            stream = there.stream(prompt_of(300), LONG)
            async for _ in stream:
                break
            await stream.aclose()
        elif how == "abort":
            reasons = []
            async for delta in there.stream(prompt_of(300), LONG, request_id="mine"):
                reasons.append(delta.finish_reason)
                if len(reasons) == 1:
                    await there.abort("mine")
            assert reasons[-1] == "abort"
        else:
            task = asyncio.create_task(tokens_of(there, prompt_of(300), LONG))
            await asyncio.sleep(0 if how == "cancel at once" else 0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await idle(there)
        await there.close()

    asyncio.run(main())


def test_refused_and_closed_are_told() -> None:
    async def main() -> None:
        there = engine()
        with pytest.raises(GodwitError, match="the prompt is empty"):
            await tokens_of(there, [], SHORT)
        waiting = asyncio.create_task(tokens_of(there, prompt_of(5), LONG))
        await asyncio.sleep(0.1)
        await there.close()
        with pytest.raises(GodwitError, match="has stopped: it was closed"):
            await waiting
        with pytest.raises(GodwitError, match="has stopped: it was closed"):
            await there.stats()
        assert not there.alive
        await there.close()

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_step_that_fails_is_told_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        there = engine()

        def fail(*args: object) -> None:
            raise RuntimeError("the machine is on fire")

        monkeypatch.setattr(there.engine._runner, "run", fail)
        outcomes = await asyncio.gather(
            *(tokens_of(there, prompt_of(5), SHORT) for _ in range(3)), return_exceptions=True
        )
        assert all(isinstance(one, GodwitError) and "on fire" in str(one) for one in outcomes)
        assert not there.alive

    asyncio.run(main())
