"""A run from checked input to the finished folder; killed at any point, the same call goes on to the same bytes.

What is in the folder: config.json, journal.sqlite, data.jsonl or data.parquet, rejected.jsonl, README.md, samples.html,
ledger.json; the last is written when all the others are whole.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from godwit.base.config import differences, to_json
from godwit.base.errors import GodwitError
from godwit.base.files import read_json, spelled, write_atomic, write_json
from godwit.base.journal import FILE_NAME, Journal, Store
from godwit.base.machine import provenance
from godwit.base.progress import Progress
from godwit.base.runs import RunFolder
from godwit.synth import costs
from godwit.synth.ask import REPAIRS
from godwit.synth.card import Made, card
from godwit.synth.endpoint import Endpoint
from godwit.synth.exchange import Account, Exchange
from godwit.synth.line import Limits
from godwit.synth.output import Format, Spool, write_rows
from godwit.synth.pages import write_pages
from godwit.synth.pipeline import Pipeline
from godwit.synth.probe import probe
from godwit.synth.rows import Row
from godwit.synth.source import Source
from godwit.synth.tasks import together
from godwit.synth.walk import Outcome, Work, walk
from godwit.text.forms import REHEARSAL


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a run is made of.

    Attributes:
        endpoints: by role, "writer" and for judged pipelines "judge".
        limit: only the first so many rows.
        structured, keep_cut, repairs: see `walk.Work`.
        max_cost: dollars this run may spend.
        ray, ray_address: workers to run on by Ray (0: without it), and the cluster to join ("": one started here).
    """

    pipeline: Pipeline
    options: Any
    source: Path
    out: Path
    endpoints: dict[str, Endpoint]
    limits: Limits = field(default_factory=Limits)
    limit: int | None = None
    seed: int = 0
    structured: bool = False
    keep_cut: bool = False
    repairs: int = REPAIRS
    kind: Format = "jsonl"
    max_cost: float | None = None
    ray: int = 0
    ray_address: str = ""
    silent: bool = False

    def settings(self) -> dict[str, Any]:
        """What the result depends on, as JSON values: neither limits nor keys nor where the folder lies."""
        return {
            "pipeline": self.pipeline.name,
            "pipeline_version": self.pipeline.version,
            "options": to_json(self.options),
            "source": spelled(self.source.name),
            "limit": self.limit,
            "models": {
                role: {"model": each.model, "extra": each.extra} | ({"forms": asdict(each.room)} if each.room else {})
                for role, each in sorted(self.endpoints.items())
            },
            "seed": self.seed,
            "structured": self.structured,
            "keep_cut": self.keep_cut,
            "repairs": self.repairs,
        }


class Summary(NamedTuple):
    """How a run ended."""

    folder: Path
    num_source: int
    num_kept: int
    num_rejected: int
    num_failed: int
    num_sent: int
    bills: list[costs.Bill]


class Trial(NamedTuple):
    """A few rows for real, and what all of them would come to."""

    outcomes: list[Outcome]
    num_source: int
    spent: list[costs.Bill]
    estimate: list[costs.Bill]


def checked(plan: Plan) -> tuple[Plan, Source]:
    """Ask the endpoints and read the input from end to end: all that can be known to be wrong before money is spent."""
    endpoints = {role: probe(each, role=role, limits=plan.limits) for role, each in plan.endpoints.items()}
    plan = replace(plan, endpoints=endpoints)
    return plan, Source(plan.source, plan.pipeline.source, limit=plan.limit, context=endpoints["writer"].context)


def run(plan: Plan) -> Summary:
    """Do it.

    Raises:
        GodwitError: the input, an endpoint or the folder is not as it should be.
        RunStoppedError: an endpoint went down, or the money is spent; the same call goes on.
    """
    folder = RunFolder(plan.out)
    with folder.lock():
        plan, source = checked(plan)
        _settle(plan)
        with Journal(plan.out / FILE_NAME) as journal, Spool(plan.out) as spool:
            accounts = asyncio.run(work_through(plan, source, journal, spool))
            return _written(plan, source, journal, spool, accounts)


def try_out(plan: Plan, count: int) -> Trial:
    """Run `count` rows, spread over the input, and estimate the whole. Their answers are kept for the run itself."""
    folder = RunFolder(plan.out)
    with folder.lock():
        plan, source = checked(plan)
        _settle(plan)
        rows = source.some(min(count, source.num_rows))
        with Journal(plan.out / FILE_NAME) as journal:
            outcomes: list[Outcome] = []
            accounts = asyncio.run(drive(plan, rows, journal, outcomes.extend))
    bills = [costs.estimate([account], num_tried=1, num_rows=1, endpoints=plan.endpoints)[0] for account in accounts]
    return Trial(
        outcomes,
        source.num_rows,
        bills,
        costs.estimate(accounts, num_tried=len(rows), num_rows=source.num_rows, endpoints=plan.endpoints),
    )


async def work_through(plan: Plan, source: Source, store: Store, spool: Spool) -> list[Account]:
    """All rows of `source` into `spool`, with a bar."""
    with Progress(source.num_rows, what=plan.pipeline.name, unit="rows", silent=plan.silent) as progress:

        def done(outcomes: list[Outcome]) -> None:
            for outcome in outcomes:
                spool.add(outcome)
            progress.advance(1, kept=str(spool.num_kept), left_out=str(spool.num_rejected))

        return await drive(plan, source, store, done)


async def drive(
    plan: Plan, rows: Iterable[tuple[Row, str]], store: Store, done: Callable[[list[Outcome]], None]
) -> list[Account]:
    """Walk all `rows`, as many at a time as calls may be under way; `done` gets each row's outcomes, in any order."""
    work = work_of(plan)
    if plan.ray:
        from godwit.synth import on_ray

        return await on_ray.drive(plan, work, rows, plan.out / FILE_NAME, done)
    waiting = iter(rows)
    async with Exchange(plan.endpoints, store=store, limits=plan.limits, max_cost=plan.max_cost) as exchange:

        async def worker() -> None:
            for row, mark in waiting:
                done(await walk(row, mark, work=work, exchange=exchange))

        await together(worker() for _ in range(plan.limits.concurrency))
        return [exchange.accounts[key] for key in sorted(exchange.accounts)]


def work_of(plan: Plan) -> Work:
    """What is the same for all rows."""
    folder = plan.source if plan.source.is_dir() else plan.source.parent
    return Work(plan.pipeline, plan.options, folder, plan.seed, plan.structured, plan.keep_cut, plan.repairs)


def _settle(plan: Plan) -> None:
    """Write config.json; a folder of another pipeline is refused, other settings reuse the answers that still fit."""
    path = plan.out / "config.json"
    settings = plan.settings()
    if path.exists():
        found = read_json(path)
        if found.get("pipeline") != plan.pipeline.name:
            raise GodwitError(
                f"{plan.out} holds a run of {found.get('pipeline', 'something else')}; choose another --out"
            )
        changed = differences(found, settings)
        if changed and not plan.silent:
            shown = "; ".join(changed[:6]) + ("; ..." if len(changed) > 6 else "")
            print(f"{plan.out} was made with other settings ({shown}); answers that still fit are reused")
    elif any(child.name not in ("lock", FILE_NAME) for child in plan.out.iterdir()):
        raise GodwitError(f"{plan.out} is there and holds no run of a pipeline; choose another --out")
    write_json(path, settings)


def _written(plan: Plan, source: Source, journal: Journal, spool: Spool, accounts: list[Account]) -> Summary:
    """All files of the folder, the ledger last."""
    bills = [
        costs.bill(role, stage, model, calls, (prompt, completion), plan.endpoints)
        for role, stage, model, calls, prompt, completion in journal.totals()
    ]
    data = write_rows(spool, plan.out, kind=plan.kind, final=plan.pipeline.final)
    rehearsed = plan.endpoints["writer"].room == REHEARSAL
    made = Made(plan.pipeline, spool, source.num_rows, data.name, plan.settings(), bills, rehearsed)
    write_atomic(plan.out / "README.md", card(made))
    write_pages(made, plan.out, journal)
    num_sent = sum(account.sent for account in accounts)
    ledger = {
        "paid": [each.json() for each in bills],
        "this_run": [vars(account) for account in accounts],
        "rows": {"source": source.num_rows, "kept": spool.num_kept, "rejected": spool.num_rejected},
        "left_out": [[*reason, count] for reason, count in sorted(spool.reasons.items())],
        "provenance": provenance(),
    }
    write_json(plan.out / "ledger.json", ledger)
    return Summary(plan.out, source.num_rows, spool.num_kept, spool.num_rejected, spool.num_failed(), num_sent, bills)
