"""One row through the stages: what comes out of it, kept and given up, each with where it came from.

Nothing in a pipeline looks at two input rows at once. So rows may be at work in any order, on any number of machines,
and the result is the same.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from godwit.synth.ask import REPAIRS, Ask
from godwit.synth.endpoint import Endpoint
from godwit.synth.exchange import Exchange
from godwit.synth.pipeline import Pipeline
from godwit.synth.rows import GivenUp, Row

LONGEST_REASON = 600


class Work(NamedTuple):
    """What is the same for all rows of a run; plain values, so that it can go to other machines.

    Attributes:
        structured: endpoints are held to JSON schemas.
        keep_cut: answers cut at max_tokens are kept.
        repairs: how often an unusable answer may be asked for again.
    """

    pipeline: Pipeline
    options: Any
    folder: Path
    seed: int
    structured: bool = False
    keep_cut: bool = False
    repairs: int = REPAIRS


class Outcome(NamedTuple):
    """One output of an input row.

    Attributes:
        source_id, path: what it is sorted by: the input row, and which of its outputs.
        kept: False if it was given up.
        record: JSON values, as written.
    """

    source_id: str
    path: tuple[int, ...]
    kept: bool
    record: dict[str, Any]


async def walk(row: Row, source_hash: str, *, work: Work, exchange: Exchange) -> list[Outcome]:
    """Run one input row through all stages; an input row always has at least one outcome."""
    ask = Ask(
        exchange,
        options=work.options,
        row_id=row.id,
        folder=work.folder,
        seed=work.seed,
        structured=work.structured,
        keep_cut=work.keep_cut,
        repairs=work.repairs,
    )
    origin = {
        "pipeline": work.pipeline.name,
        "pipeline_version": work.pipeline.version,
        "models": models_of(exchange.endpoints),
        "seed": work.seed,
        "source_id": row.id,
        "source_hash": source_hash,
    }
    return await _through(row, (), 0, ask, work=work, origin=origin)


def models_of(endpoints: Mapping[str, Endpoint]) -> dict[str, str]:
    """The model of each role."""
    return {role: endpoint.model for role, endpoint in sorted(endpoints.items())}


async def _through(
    row: Row, path: tuple[int, ...], place: int, ask: Ask[Any], *, work: Work, origin: dict[str, Any]
) -> list[Outcome]:
    stages = work.pipeline.stages
    name = origin["source_id"] + "".join(f"#{number}" for number in path)

    def ended(status: str, stage: str, reason: str) -> list[Outcome]:
        given = {"status": status, "stage": stage, "reason": reason}
        record = {"id": name, **given, "provenance": origin | {"prompt_hashes": sorted(set(ask.keys))}}
        return [Outcome(origin["source_id"], path, False, record)]

    while place < len(stages):
        stage = stages[place]
        place += 1
        try:
            given = await stage(row, ask)
        except GivenUp as end:
            return ended(end.status, stage.__name__, str(end)[:LONGEST_REASON])
        if isinstance(given, list):
            if not given:
                return ended("dropped", stage.__name__, "nothing came of it")
            parts = (
                _through(part, (*path, number), place, ask.fork(), work=work, origin=origin)
                for number, part in enumerate(given)
            )
            return [outcome for outcomes in await asyncio.gather(*parts) for outcome in outcomes]
        row = given
    record = {
        **row.model_dump(mode="json"),
        "id": name,
        "provenance": origin | {"prompt_hashes": sorted(set(ask.keys))},
    }
    return [Outcome(origin["source_id"], path, True, record)]
