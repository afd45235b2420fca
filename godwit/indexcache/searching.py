"""The search as one call: a model and calibration text in, a `SearchResult` out; a folder makes it resumable."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from godwit.base.runs import RunFolder
from godwit.dist.world import World, join_world
from godwit.indexcache.calibration import Calibration, Row
from godwit.indexcache.engine import DecoderEngine, Engine
from godwit.indexcache.greedy import Search
from godwit.indexcache.options import SearchOptions
from godwit.indexcache.result import SearchResult
from godwit.models.decoder import Decoder


def search(
    model: "Decoder | nn.Module | Engine | str | Path",
    calibration: "Calibration | Tensor | Sequence[Tensor] | Sequence[Row]",
    *,
    out: str | Path | None = None,
    world: World | None = None,
    **options: Any,
) -> SearchResult:
    """Find the order in which a model's layers give up their indexers.

    Args:
        model: a decoder, the folder of one, or a Transformers model of the DSA family (searched in place).
        calibration: token tensors (T,), one a row; rows; or a `Calibration`.
        out: folder for `journal.jsonl` and `search.json`; a stopped search in it is continued. None writes nothing.
        world: the processes at work; None joins those that `torchrun` started.
        options: fields of `SearchOptions`, e.g. `keep=0.25`.

    Raises:
        GodwitError: a model without indexers, rows not longer than `index_topk`, options out of range, a folder that
            holds another search or a damaged journal.
    """
    chosen = SearchOptions(**options)
    rows = Calibration.of(calibration)
    if world is None:
        with join_world() as joined:
            return search(model, rows, out=out, world=joined, **options)
    folder = None if out is None else Path(out)
    owned = RunFolder(folder).lock() if folder is not None and world.is_first else nullcontext()
    with owned, engine_for(model) as engine:
        result = Search(engine, rows, chosen, folder=folder, world=world).run()
        if folder is not None and world.is_first:
            result.save(folder)
        return result


def engine_for(model: "Decoder | nn.Module | Engine | str | Path") -> Engine:
    """What runs the model: Godwit's decoder, or a proxy around a Transformers model."""
    if isinstance(model, (str, Path)):
        from godwit.models.weights import load

        return DecoderEngine(load(model), name=str(model))
    if isinstance(model, Decoder):
        return DecoderEngine(model)
    if isinstance(model, nn.Module):
        from godwit.indexcache.proxy import ProxyEngine

        return ProxyEngine(model)
    return model
