"""An hour's worth of mixed traffic in ten minutes: does the server stay well?

    python benchmarks/soak_server.py                      # ten minutes
    python benchmarks/soak_server.py --minutes 2 --rate 6 --burst-every 20

Arrivals are a Poisson process: short and long chats, plain completions with shared beginnings, streams and whole
answers, forms, tools; some clients hang up in the middle, some send too much, some send nonsense. Now and then a burst
of long answers comes at once, more than the line takes and more than the few pages hold. Checked:
    * both walls were hit: somebody was told 429, and pages ran out so that answers gave way and came back
    * no error that is not the client's: what should succeed does (or is told 429), what should not gets its 4xx
    * no page leaked: when all is done every page is free and nothing runs or waits
    * memory flat: the server's resident size grows by less than `MOST_GROWTH` after the first quarter
Exits with 1 and says which check failed.
"""

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx
import psutil

from godwit.base.machine import provenance
from godwit.serve.local import Endpoint, serving

MOST_GROWTH = 0.10
# Of the server. A few long answers fill the pages, and 32 choices run or wait at most.
ROOM = {"max_num_seqs": 16, "num_pages": 24, "max_queue": 16}
SHARED = "import os\nimport sys\nimport json\n" * 60
Figures = dict[str, float]


@dataclass
class Tally:
    """What came of it."""

    results: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    first_seconds: list[float] = field(default_factory=list)


def requests(rng: random.Random, *, burst: bool) -> tuple[str, str, dict, set[int]]:
    """(what it is, path, body, statuses that are right); a burst is of long answers only."""
    chat, plain = "/v1/chat/completions", "/v1/completions"
    say = [{"role": "user", "content": rng.choice(["hi", "what is this?\n" + SHARED[: rng.randrange(40, 1500)]])}]
    off = {"thinking": {"type": "disabled"}}
    tool = {"name": "f", "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}}}
    tools = [{"type": "function", "function": tool}]
    short, few = rng.randrange(1, 40), rng.choice([1, 1, 2])
    text = {"prompt": SHARED[: rng.randrange(100, 2000)], "max_tokens": short, "n": few}
    call = {"messages": say, **off, "max_tokens": 60, "tools": tools, "tool_choice": "required"}
    nonsense = [{"messages": []}, {"mesages": 1}, {"messages": say, "n": 9999}, {"messages": say, "model": "y"}]
    fine = {200, 429}
    long = {"prompt": SHARED[: rng.randrange(100, 2000)], "max_tokens": rng.randrange(200, 600), "ignore_eos": True}
    kinds = [(1, "long", plain, long, fine)]
    if not burst:
        kinds += [
            (30, "chat", chat, {"messages": say, "max_tokens": short}, fine),
            (10, "form", chat, {"messages": say, **off, "max_tokens": 40, "guided_regex": "[a-c]{1,9}"}, fine),
            (5, "tool", chat, call, fine),
            (30, "text", plain, text, fine),
            (4, "ids", plain, {"prompt": [[5, 6, 7], [8, 9]], "max_tokens": 4, "logprobs": 2}, fine),
            (12, "hung up", chat, {"messages": say, "max_tokens": 4000, "ignore_eos": True}, fine),
            (3, "too long", plain, {"prompt": "a b " * 20_000}, {400}),
            (1, "too large", plain, {"prompt": "x" * 10_000_000}, {413}),
            (5, "bad", chat, rng.choice(nonsense), {400, 404}),
        ]
    _, kind, path, body, right = rng.choices(kinds, [one[0] for one in kinds])[0]
    return kind, path, {**body, "stream": rng.random() < 0.6}, right


async def one(client: httpx.AsyncClient, rng: random.Random, tally: Tally, *, burst: bool = False) -> None:
    """A request, from its sending to its end."""
    kind, path, body, right = requests(rng, burst=burst)
    patience = rng.uniform(0.05, 2.0) if kind == "hung up" else None
    start = time.monotonic()
    try:
        async with asyncio.timeout(patience), client.stream("POST", path, json=body) as response:
            pieces = []
            async for piece in response.aiter_bytes():
                if not pieces and body["stream"] and response.status_code == 200:
                    tally.first_seconds.append(time.monotonic() - start)
                pieces.append(piece)
    except TimeoutError:
        tally.results["hung up"] += 1
    except httpx.HTTPError as error:
        tally.faults.append(f"{kind}: {type(error).__name__} {error}")
    else:
        judge(kind, body["stream"], response, b"".join(pieces), right, tally)


def judge(kind: str, stream: bool, response: httpx.Response, data: bytes, right: set[int], tally: Tally) -> None:
    """Whether an answer is what it should be."""
    status = response.status_code
    if status not in right:
        tally.faults.append(f"{kind}: {status} {data[:300]!r}")
    elif status == 429:
        tally.results["told 429"] += 1
        if "retry-after" not in response.headers:
            tally.faults.append("429 without Retry-After")
    elif status != 200:
        tally.results["refused"] += 1
    else:
        tally.results["answered"] += 1
        if stream and (not data.endswith(b"data: [DONE]\n\n") or b'data: {"error"' in data):
            tally.faults.append(f"{kind}: a broken stream: {data[-300:]!r}")


async def traffic(endpoint: Endpoint, options: argparse.Namespace) -> tuple[Tally, list[float], Figures]:
    """All requests; the server's memory (MB) once a second; and its figures when all is done."""
    rng, tally, memory = random.Random(options.seed), Tally(), []
    process = psutil.Process(endpoint.pid)
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    base = endpoint.base_url.removesuffix("/v1")
    limits = httpx.Limits(max_connections=400)
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=300, limits=limits) as client:
        tasks: set[asyncio.Task[None]] = set()
        start = said = burst = time.monotonic()
        while time.monotonic() < start + 60 * options.minutes:
            await asyncio.sleep(rng.expovariate(options.rate))
            for task in [task for task in tasks if task.done()]:
                tasks.remove(task)
                task.result()  # raises what went wrong here rather than there
            tasks.add(asyncio.create_task(one(client, random.Random(rng.random()), tally)))
            if time.monotonic() - burst > options.burst_every:
                burst = time.monotonic()
                seeds = [rng.random() for _ in range(options.burst)]
                tasks |= {asyncio.create_task(one(client, random.Random(s), tally, burst=True)) for s in seeds}
            if time.monotonic() - said > 1 or not memory:
                memory.append(process.memory_info().rss / 1e6)
                said = time.monotonic()
        await asyncio.gather(*tasks)
        end = time.monotonic() + 60
        while True:
            figures = read((await client.get("/metrics")).text)
            if not at_work(figures) or time.monotonic() > end:
                return tally, memory, figures
            await asyncio.sleep(0.2)


def read(text: str) -> Figures:
    """Prometheus's text without the labelled lines."""
    lines = (line.split() for line in text.splitlines() if line and line[0] != "#" and "{" not in line)
    return {name.removeprefix("godwit_").removesuffix("_total"): float(value) for name, value in lines}


def at_work(figures: Figures) -> float:
    """Choices that run or wait."""
    return figures["running_choices"] + figures["waiting_choices"]


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=6.0, help="requests a second")
    parser.add_argument("--burst", type=int, default=48, help="long answers asked for at once")
    parser.add_argument("--burst-every", type=float, default=45.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with serving(options.model, **ROOM, pages=False) as endpoint:
        tally, memory, figures = asyncio.run(traffic(endpoint, options))
    checks = report(tally, memory, figures)
    for name, fine in checks.items():
        print(f"{'ok  ' if fine else 'FAIL'} {name}")
    for fault in tally.faults[:20]:
        print("fault:", fault)
    return 0 if all(checks.values()) else 1


def report(tally: Tally, memory: list[float], figures: Figures) -> dict[str, bool]:
    """Print what happened; the checks and whether they hold."""
    settled, last = memory[len(memory) // 4 :], memory[-max(1, len(memory) // 10) :]
    growth = statistics.mean(last) / statistics.mean(settled[: max(1, len(settled) // 5)]) - 1
    hits = figures["prefix_hit_tokens"] / max(1, figures["prefix_query_tokens"])
    first = sorted(tally.first_seconds)
    machine = provenance()
    print(f"{machine['date'][:10]}, {machine['cpu']}, {machine['cores']} cores, commit {machine['commit']}")
    print("requests: " + ", ".join(f"{count} {what}" for what, count in tally.results.most_common()))
    print(f"first byte of a stream: median {first[len(first) // 2]:.2f} s, 95 % {first[len(first) * 95 // 100]:.2f} s")
    print(f"tokens sampled {figures['generated_tokens']:.0f}, prefix hits {hits:.0%}, ", end="")
    print(f"preemptions {figures['preemptions']:.0f}")
    print(f"memory, MB: {memory[0]:.0f}, {settled[0]:.0f} after a quarter, {memory[-1]:.0f} at the end ({growth:+.1%})")
    return {
        "the line was full": tally.results["told 429"] > 0,
        "pages ran out": figures["preemptions"] > 0,
        "no error that is not the client's": not tally.faults,
        "nothing left running": not at_work(figures),
        "no page leaked": figures["pages"] == figures["free_pages"],
        "memory flat": growth < MOST_GROWTH,
    }


if __name__ == "__main__":
    sys.exit(main())
