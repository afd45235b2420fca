"""Running a pipeline in tests, from rows and a scripted endpoint to what came out, with checks for all pipelines."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from godwit.synth import pipeline, run
from godwit.synth.endpoint import Endpoint
from godwit.synth.line import Limits
from tests.synth import endpoint as scripted

# A stall ends by hanging up; timeouts are for tests/synth/test_line.py, so that a busy machine fails nothing here.
QUICK = Limits(concurrency=8, timeout=60.0, patience=60.0, threshold=50, attempts=10)
RESULTS = ("data.jsonl", "rejected.jsonl", "README.md", "samples.html", "config.json")


def plan_for(name: str, source: Path, out: Path, url: str, **settings: Any) -> run.Plan:
    """A run of `name` against a scripted endpoint, judge and writer both there."""
    found = pipeline.load(name)
    options = found.options(**settings.pop("options", {}))
    endpoints = {"writer": Endpoint(url=url, model="writer-1", key="x" if not scripted.KEY else scripted.KEY)}
    if found.judged:
        endpoints["judge"] = Endpoint(url=url, model="judge-1", key=scripted.KEY)
    given = {"limits": QUICK, "silent": True} | settings
    return run.Plan(pipeline=found, options=options, source=source, out=out, endpoints=endpoints, **given)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def finishes(
    name: str,
    rows: list[dict[str, Any]],
    answer: Callable[[dict[str, Any]], Any],
    folder: Path,
    *,
    num_calls: int | None = None,
    faults: float = 0.4,
    **settings: Any,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run against an endpoint with every fault on; then again without any call, to the same bytes.

    Args:
        num_calls: different requests there should be.
        faults: chance of one; 0 for tests of something else.

    Returns:
        The rows of data.jsonl and of rejected.jsonl.
    """
    source = write_rows(folder / "rows.jsonl", rows)
    out = folder / "out"
    with scripted.serving(answer, faults=faults) as served:
        plan = plan_for(name, source, out, served.url, **settings)
        done = run.run(plan)
        assert done.num_failed == 0 and served.paid_twice == 0
        if num_calls is not None:
            assert len(served.served) == num_calls
        assert done.num_sent == len(served.served)
        before = {file: (out / file).read_bytes() for file in RESULTS}
        again = run.run(plan)
        assert again.num_sent == 0 and served.num_served == done.num_sent
    after = {file: (out / file).read_bytes() for file in RESULTS}
    assert after == before
    data, rejected = read_rows(out / "data.jsonl"), read_rows(out / "rejected.jsonl")
    ids = {row["provenance"]["source_id"] for row in (*data, *rejected)}
    assert len(ids) == len(rows), "an input row is lost"
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert scripted.KEY.encode() not in everything
    return data, rejected
