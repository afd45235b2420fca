"""One call against an endpoint that misbehaves in one way at a time."""

import asyncio
import time
from typing import Any

import pytest

from godwit.base.endpoint import Price
from godwit.base.errors import GodwitError, RunStoppedError
from godwit.base.journal import Answer
from godwit.synth.endpoint import Endpoint, estimate_tokens
from godwit.synth.line import REFUSALS, Limits, Line
from godwit.synth.rows import Failed
from godwit.synth.wire import Request
from tests.synth import endpoint as scripted


def ask(served: scripted.Endpoint, *, count: int = 1, key: str = scripted.KEY, **limits: Any) -> list[Answer]:
    """`count` different requests at once."""
    endpoint = Endpoint(url=served.url, model="writer-1", key=key)
    given = Limits(**{"concurrency": 4, "timeout": 0.4, "patience": 20.0, "threshold": 100, "attempts": 6} | limits)

    async def all_of_them() -> list[Answer]:
        async with Line(endpoint, limits=given) as line:
            requests = [
                Request(model="writer-1", messages=[{"role": "user", "content": f"{n}"}], parameters={}, seed=0)
                for n in range(count)
            ]
            return await asyncio.gather(*map(line.ask, requests))

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("kind", scripted.FAULTS)
@pytest.mark.parametrize("stream", [False, True])
def test_every_fault_is_got_over(kind: str, stream: bool) -> None:
    with scripted.serving(lambda _: "the answer", faults=1.0, kinds=(kind,)) as served:
        (answer,) = ask(served, stream=stream)
    assert answer.text == "the answer" and answer.attempts == 3 and served.faulted[kind] == 2


def test_retry_after_is_waited_for() -> None:
    with scripted.serving(lambda _: "yes", faults=1.0, kinds=("busy",)) as served:
        start = time.monotonic()
        ask(served)
    assert time.monotonic() - start >= 0.1  # two times 0.05


def test_being_asked_to_wait_longer_than_patience_stops() -> None:
    with (
        scripted.serving(lambda _: "yes", faults=1.0, kinds=("busy",)) as served,
        pytest.raises(RunStoppedError, match=r"no room for .* the same command again later"),
    ):
        ask(served, patience=0.01)


def test_a_poisoned_request_fails_alone_and_says_why_without_the_key() -> None:
    def answer(request: dict) -> str | dict:
        return {"content": f"boom, Bearer {scripted.KEY}", "status": 500} if prompt(request) == "1" else "yes"

    with scripted.serving(answer) as served, pytest.raises(Failed) as failed:
        ask(served, count=3, attempts=2)
    assert "no answer in 2 attempts, the last: status 500: boom" in str(failed.value)
    assert scripted.KEY not in str(failed.value)


def prompt(request: dict) -> str:
    return scripted.prompt_of(request)


def test_a_refusal_is_not_repeated() -> None:
    with scripted.serving(lambda _: {"content": "too long", "status": 400}) as served, pytest.raises(Failed):
        ask(served)
    assert sum(served.attempts.values()) == 1


def test_refusals_of_everything_stop() -> None:
    async def all_of_them(served: scripted.Endpoint) -> None:
        async with Line(Endpoint(url=served.url, model="m", key=scripted.KEY), limits=Limits()) as line:
            for number in range(REFUSALS + 5):
                request = Request(model="m", messages=[{"role": "user", "content": f"{number}"}], seed=0)
                try:
                    await line.ask(request)
                except Failed:
                    continue

    with (
        scripted.serving(lambda _: {"content": "no such parameter", "status": 422}) as served,
        pytest.raises(RunStoppedError, match=r"20 requests in a row were refused.*no such parameter"),
    ):
        asyncio.run(all_of_them(served))
    assert sum(served.attempts.values()) == REFUSALS


def test_a_wrong_key_stops_at_once_and_is_not_shown() -> None:
    with scripted.serving(lambda _: "yes") as served, pytest.raises(RunStoppedError) as stopped:
        ask(served, key="sk-wrong-and-secret-1234")
    assert "status 401" in str(stopped.value) and "--key-env" in str(stopped.value)
    assert "wrong-and-secret" not in str(stopped.value)


def test_an_endpoint_that_dies_stops_the_run() -> None:
    with scripted.serving(lambda _: "yes", dead=True) as served:
        start = time.monotonic()
        with pytest.raises(RunStoppedError, match=r"has not answered.*the same command goes on from there"):
            ask(served, count=8, threshold=4, patience=0.5)
    assert time.monotonic() - start < 10


def test_an_endpoint_that_comes_back_is_gone_on_with() -> None:
    with scripted.serving(lambda _: "yes", dead=True) as served:

        async def story() -> list[Answer]:
            endpoint = Endpoint(url=served.url, model="m", key=scripted.KEY)
            async with Line(endpoint, limits=Limits(threshold=3, patience=30, attempts=3, concurrency=4)) as line:
                requests = [
                    Request(model="m", messages=[{"role": "user", "content": f"{n}"}], seed=0) for n in range(8)
                ]
                calls = [asyncio.create_task(line.ask(request)) for request in requests]
                await asyncio.sleep(1.0)
                served.dead = False
                return await asyncio.gather(*calls)

        assert len(asyncio.run(story())) == 8
    assert served.paid_twice == 0


def test_no_more_at_once_than_allowed() -> None:
    with scripted.serving(lambda _: "yes", delay=0.02) as served:
        ask(served, count=20, concurrency=3)
    assert served.most_at_once == 3


def test_hostile_content_is_text() -> None:
    hostile = "\ud800<script>" + "x" * 10_000_000
    with scripted.serving(lambda _: hostile) as served:
        (answer,) = ask(served, timeout=30.0)
    assert answer.text == "\ufffd<script>" + "x" * 10_000_000
    answer.text.encode()


def test_addresses_with_keys_are_refused() -> None:
    for url in ("https://user:secret@host/v1", "https://host/v1?api-key=secret"):
        with pytest.raises(GodwitError, match="environment variable") as error:
            Endpoint(url=url, model="m")
        assert "secret" not in str(error.value)
    with pytest.raises(GodwitError, match="is no address"):
        Endpoint(url="localhost:8000", model="m")


def test_prices_and_estimates() -> None:
    assert Price.parse("2.5/10").of(1_000_000, 500_000) == 7.5
    for wrong in ("2.5", "a/b", "-1/2", "1/2/3"):
        with pytest.raises(GodwitError, match="price"):
            Price.parse(wrong)
    assert 20 <= estimate_tokens("word " * 20) <= 30 and estimate_tokens("武夷山的茶") >= 4
    assert "secret" not in repr(Endpoint(url="http://x/v1", model="m", key="secret", key_env=""))


def test_the_key_is_of_model_prompt_and_parameters() -> None:
    request = Request(model="m", messages=[{"role": "user", "content": "x"}], parameters={"a": 1, "b": 2}, seed=3)
    same = Request(model="m", messages=[{"content": "x", "role": "user"}], parameters={"b": 2, "a": 1}, seed=3)
    assert request.key() == same.key() and len(request.key()) == 32
    others = [{"model": "n"}, {"messages": []}, {"parameters": {"a": 1}}, {"seed": 4}]
    assert len({request.key()} | {Request(**(vars(request) | other)).key() for other in others}) == 5
