"""What the pipeline floor costs a call: 10,000 calls, 64 at a time, against an endpoint in another process.

Usage: python benchmarks/bench_synth.py [--calls 10000] [--concurrency 64]

One row is one call (a pipeline of one stage), so a row's walk, its place in the spool and the journal's transaction are
in the figure. Processor time of this process over the calls is the harness's overhead on one core; beside it the same
requests by aiohttp alone, in the same run. Memory is the process's own, read while it runs. Prints JSON.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import psutil

from godwit.base.journal import FILE_NAME, Journal
from godwit.base.machine import provenance
from godwit.synth.ask import Ask, user
from godwit.synth.endpoint import Endpoint
from godwit.synth.line import Limits
from godwit.synth.output import Spool
from godwit.synth.pipeline import NoOptions, Pipeline
from godwit.synth.rows import Row
from godwit.synth.run import Plan, work_through
from godwit.synth.source import Source
from godwit.synth.wire import Request, body_of

ENDPOINT = Path(__file__).parents[1] / "tests" / "synth" / "endpoint.py"
POINTS = 5


class Item(Row):
    """One call's worth."""

    text: str


async def once(row: Item, ask: Ask) -> Item:
    """The one call."""
    return row.to(Item, text=await ask.text("once", [user(row.text)], max_tokens=256, temperature=1.0))


PIPELINE = Pipeline("bench", "", 1, (once,), Item, Item, NoOptions, judged=False, pictures=False, retrieves=False)


class Watch:
    """The process's memory at evenly spaced calls."""

    def __init__(self, total: int):
        self.every = max(1, total // POINTS)
        self.done = 0
        self.points: list[tuple[int, int]] = []
        self.process = psutil.Process()

    def tick(self) -> None:
        """One more call is done."""
        self.done += 1
        if self.done % self.every == 0:
            self.points.append((self.done, self.process.memory_info().rss))


def harness(plan: Plan, calls: int) -> dict[str, object]:
    """All calls through the floor."""
    watch = Watch(calls)
    source = Source(plan.source, Item)
    with Journal(plan.out / FILE_NAME) as journal, Spool(plan.out) as spool:
        add = spool.add

        def counted(outcome: object) -> None:
            add(outcome)  # type: ignore[arg-type]
            watch.tick()

        spool.add = counted  # type: ignore[method-assign]
        wall, cpu = time.perf_counter(), time.process_time()
        (account,) = asyncio.run(work_through(plan, source, journal, spool))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert account.sent == spool.num_kept == len(journal) == calls, (account, spool.num_kept, len(journal))
        again = time.process_time()
        with Spool(plan.out) as second:
            (account,) = asyncio.run(work_through(plan, source, journal, second))
        assert account.sent == 0 and account.reused == calls
    return {
        "cpu_ms_per_call": round(cpu / calls * 1e3, 3),
        "calls_per_second": round(calls / wall, 1),
        "cpu_ms_per_call_resumed": round((time.process_time() - again) / calls * 1e3, 3),
        "memory_mb": {str(done): round(size / 1e6, 1) for done, size in watch.points},
        "journal_mb": round(journal.path.stat().st_size / 1e6, 1),
    }


async def bare(url: str, calls: int, concurrency: int) -> dict[str, float]:
    """The same requests by aiohttp, with nothing kept."""
    endpoint = Endpoint(url=url, model="writer-1")
    left = iter(range(calls))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:

        async def worker() -> None:
            for number in left:
                messages = [user(f"Say something about {number}. " + "word " * 100)]
                request = Request(model="writer-1", messages=messages, parameters={"max_tokens": 256}, seed=0)
                body = body_of(request, endpoint, send_seed=True)
                async with session.post(endpoint.chat_url, data=body) as response:
                    json.loads(await response.read())

        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker() for _ in range(concurrency)))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"cpu_ms_per_call": round(cpu / calls * 1e3, 3), "calls_per_second": round(calls / wall, 1)}


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=64)
    words = parser.parse_args()
    server = subprocess.Popen([sys.executable, str(ENDPOINT)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
            source = Path(folder) / "rows.jsonl"
            with open(source, "w", encoding="utf-8") as file:
                for number in range(words.calls):
                    text = f"Say something about {number}. " + "word " * 100
                    file.write(json.dumps({"id": f"{number:06d}", "text": text}) + "\n")
            plan = Plan(
                pipeline=PIPELINE,
                options=NoOptions(),
                source=source,
                out=Path(folder) / "out",
                endpoints={"writer": Endpoint(url=url, model="writer-1", key_env="")},
                limits=Limits(concurrency=words.concurrency),
            )
            found = {"calls": words.calls, "concurrency": words.concurrency, "harness": harness(plan, words.calls)}
            found["aiohttp_alone"] = asyncio.run(bare(url, words.calls, words.concurrency))
    finally:
        server.terminate()
        server.wait()
    machine = provenance()
    print(json.dumps(found | {name: machine[name] for name in ("date", "commit", "cpu", "cores")}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
