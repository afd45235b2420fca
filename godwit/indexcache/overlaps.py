"""How much of their selections layers have in common: |T_i n T_j| / k for each pair, over calibration text.

Measured with every indexer on, over queries that choose (more than k positions before them). For reference: the
official heat map of a 30B model at 200K tokens, decoded, has an adjacent mean of 0.733 (0.617 to 0.833); two random
selections of k out of L positions have k / L. IndexCache (arXiv 2603.12201) finds overlap a poor guide to what can be
shared; it is a picture of the model, not a search.

Letters: T tokens, N layers, K selected positions, B choosing queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from godwit.base.config import to_json
from godwit.base.errors import GodwitError
from godwit.base.files import write_atomic, write_json
from godwit.base.progress import Progress
from godwit.indexcache.calibration import Calibration, Row
from godwit.indexcache.engine import Engine
from godwit.indexcache.searching import engine_for
from godwit.models.decoder import Decoder
from godwit.models.selections import common

REFERENCE = 0.733
"""Adjacent mean of the official figure (30B, k 2048, 200K tokens)."""
CLUSTER = 0.7
"""Neighbours that have this much in common are one cluster: the least the paper's text gives for them."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What layers have in common.

    Attributes:
        model, topk, num_tokens, seq_len: what was measured, on what.
        layers: layers with an indexer of their own, in order; the rows and columns of `matrix`.
        matrix: mean of |T_i n T_j| / k over queries.
        chance: the same for two random selections.
        adjacent_mean: mean over neighbouring layers.
        clusters: runs of neighbouring layers that have at least `CLUSTER` in common, each with the one before.
    """

    model: str
    topk: int
    num_tokens: int
    seq_len: int
    layers: tuple[int, ...]
    matrix: tuple[tuple[float, ...], ...]
    chance: float
    adjacent_mean: float
    clusters: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return to_json(self)

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Write `overlap.json` and `overlap.png`; returns their paths."""
        folder = Path(folder)
        write_json(folder / "overlap.json", self.to_json())
        write_atomic(folder / "overlap.png", heat_map(self))
        return folder / "overlap.json", folder / "overlap.png"


def overlap(
    model: "Decoder | nn.Module | Engine | str | Path",
    calibration: "Calibration | Tensor | Sequence[Tensor] | Sequence[Row]",
) -> Overlap:
    """Measure a model; arguments as in `godwit.indexcache.search`."""
    rows = Calibration.of(calibration)
    with engine_for(model) as engine:
        fitted = Calibration(rows=engine.rows(rows.rows, least=engine.topk))
        fitted.check(topk=engine.topk, vocab_size=engine.vocab_size)
        layers = tuple(layer for layer in range(engine.num_layers) if engine.plan.is_full(layer))
        if len(layers) < 2:
            raise GodwitError(f"{engine.name} has {len(layers)} layer with an indexer; there is no pair to compare")
        total_NN = torch.zeros(len(layers), len(layers), dtype=torch.float64)
        chance, num_queries = 0.0, 0
        with Progress(len(fitted.rows), what="comparing selections", unit="rows") as progress:
            for row in fitted.rows:
                common_NN, expected, count = _row(engine, row)
                total_NN, chance, num_queries = total_NN + common_NN, chance + expected, num_queries + count
                progress.advance(1)
        mean_NN = total_NN / num_queries
        adjacent = mean_NN.diagonal(1).tolist()
        return Overlap(
            model=engine.name,
            topk=engine.topk,
            num_tokens=fitted.num_tokens,
            seq_len=fitted.seq_len,
            layers=layers,
            matrix=tuple(tuple(line) for line in mean_NN.tolist()),
            chance=chance / num_queries,
            adjacent_mean=sum(adjacent) / len(adjacent),
            clusters=clusters(layers, adjacent),
        )


def clusters(layers: Sequence[int], adjacent: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    """Runs of at least two layers whose neighbours have `CLUSTER` or more in common."""
    runs: list[list[int]] = [[layers[0]]]
    for layer, shared in zip(layers[1:], adjacent, strict=True):
        if shared >= CLUSTER:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return tuple(tuple(run) for run in runs if len(run) > 1)


@torch.inference_mode()
def _row(engine: Engine, row: Row) -> tuple[Tensor, float, int]:
    """Sums over the row's choosing queries: overlaps (N, N), expectation of two random selections, and their number."""
    run = engine.enter(row)
    state, chosen = run.first, list[Tensor]()
    for layer in range(engine.num_layers):
        own = engine.plan.is_full(layer)
        state = run.step(layer, state, own)
        if own:
            assert state.index_TK is not None, "rows are longer than index_topk"
            chosen.append(state.index_TK.reshape(len(row.tokens_T), -1))
    choosing_T = row.context.positions_T >= engine.topk
    queries = choosing_T.nonzero().flatten()
    common_NN = common(chosen, queries) / engine.topk
    visible_B = row.context.positions_T[queries] + 1
    return common_NN, float((engine.topk / visible_B.double()).sum()), len(queries)


def heat_map(found: Overlap) -> bytes:
    """The matrix as a PNG."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    side = min(max(3.6, 0.16 * len(found.layers) + 1.6), 11.0)
    figure = Figure(figsize=(side + 1.0, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(found.matrix, cmap="viridis", vmin=0.0, vmax=1.0, interpolation="nearest")
    axes.set(xlabel="layer", ylabel="layer", title=f"common positions / {found.topk}, {found.model}")
    axes.title.set_fontsize(9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
        axis.set_major_formatter(
            lambda at, _place: str(found.layers[round(at)]) if 0 <= round(at) < len(found.layers) else ""
        )
    figure.colorbar(image, ax=axes, shrink=0.85)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
