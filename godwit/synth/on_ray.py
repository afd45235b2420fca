"""The same run on several machines by Ray: rows go to workers, answers come back to the one journal on this machine.

Rows know nothing of each other, so the bytes that come out are those of a run without Ray. Limits and --max-cost are
divided evenly among the workers. A worker that dies is started again and its rows are walked again, from the journal.
Workers read the key from their own environment (a cluster's nodes must have the variable): it is in no message.

Two workers that happen to ask the very same thing at the same moment both send it; on one machine one would wait.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from godwit.base.errors import GodwitError, MissingPartError
from godwit.base.journal import Answer, Entry, Journal
from godwit.synth.exchange import Account, Exchange, merged
from godwit.synth.line import Limits
from godwit.synth.rows import Row
from godwit.synth.tasks import together
from godwit.synth.walk import Outcome, Work, walk

if TYPE_CHECKING:
    from godwit.synth.run import Plan


class Keeper:
    """An actor beside the journal's file, through which all workers read and write it."""

    def __init__(self, path: Path):
        self.journal = Journal(path).__enter__()

    async def get(self, key: str) -> Answer | None:
        """The answer under `key`."""
        return await self.journal.get(key)

    async def put(self, entry: Entry) -> None:
        """Keep an answer; it is on disk when this returns."""
        await self.journal.put(entry)

    async def close(self) -> None:
        """Write what is waiting."""
        self.journal.__exit__(None, None, None)


class RemoteStore:
    """The journal as a worker sees it."""

    def __init__(self, keeper: Any):
        self.keeper = keeper

    async def get(self, key: str) -> Answer | None:
        """The answer under `key`."""
        return await self.keeper.get.remote(key)

    async def put(self, entry: Entry) -> None:
        """Keep an answer; it is on disk when this returns."""
        await self.keeper.put.remote(entry)


class Worker:
    """An actor that walks rows, several at a time, over connections of its own."""

    def __init__(self, work: Work, endpoints: dict[str, Any], limits: Limits, max_cost: float | None, keeper: Any):
        self.work = work
        self.exchange = Exchange(endpoints, store=RemoteStore(keeper), limits=limits, max_cost=max_cost)
        self.opening: asyncio.Task[Exchange] | None = None

    async def walk(self, row: Row, mark: str) -> list[Outcome]:
        """One row through all stages."""
        if self.opening is None:
            self.opening = asyncio.create_task(self.exchange.__aenter__())
        await self.opening
        return await walk(row, mark, work=self.work, exchange=self.exchange)

    async def close(self) -> list[Account]:
        """End the connections; what calls came to."""
        if self.opening is not None:
            await self.exchange.__aexit__(None, None, None)
        return list(self.exchange.accounts.values())


async def drive(
    plan: "Plan", work: Work, rows: Iterable[tuple[Row, str]], path: Path, done: Callable[[list[Outcome]], None]
) -> list[Account]:
    """As `run.drive`, over `plan.ray` workers."""
    ray = _ray(plan.ray_address)
    try:
        strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        rows_each = max(1, plan.limits.concurrency // plan.ray)
        keeper = ray.remote(Keeper).options(num_cpus=0, scheduling_strategy=strategy, max_concurrency=1000).remote(path)
        make = ray.remote(Worker).options(
            num_cpus=1 if plan.ray_address else 0,
            max_concurrency=rows_each + 1,
            max_restarts=3,
            max_task_retries=3,
            scheduling_strategy="SPREAD",
        )
        shares = divided(plan.limits, plan.ray), None if plan.max_cost is None else plan.max_cost / plan.ray
        workers = [make.remote(work, plan.endpoints, *shares, keeper) for _ in range(plan.ray)]
        waiting = iter(rows)

        async def feed(worker: Any) -> None:
            for row, mark in waiting:
                done(await worker.walk.remote(row, mark))

        try:
            await together(feed(worker) for worker in workers for _ in range(rows_each))
        finally:
            accounts = await asyncio.gather(*(worker.close.remote() for worker in workers))
            await keeper.close.remote()
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, GodwitError):
            raise error.cause from None  # as it was said there, without Ray's traceback
        raise
    finally:
        ray.shutdown()
    return merged(account for each in accounts for account in each)


def divided(limits: Limits, count: int) -> Limits:
    """Each one's share."""
    return replace(
        limits,
        concurrency=max(1, limits.concurrency // count),
        rpm=None if limits.rpm is None else limits.rpm / count,
        tpm=None if limits.tpm is None else limits.tpm / count,
    )


def _ray(address: str) -> Any:
    """Ray, started here or joined at `address`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.util.scheduling_strategies
    except ModuleNotFoundError as error:
        raise MissingPartError("--ray needs Ray; type pip install 'godwit[ray]'") from error
    settings: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **settings)
    except ConnectionError as error:
        raise GodwitError(
            f"no Ray cluster at {address} ({error}); type ray start --head there, or leave it out"
        ) from error
    except Exception as error:
        # Ray raises this very class, and none more special, when its own processes do not come up in time.
        if type(error) is not Exception:
            raise
        raise GodwitError(f"Ray did not start ({error}); try again when the machine is less busy") from error
    return ray
