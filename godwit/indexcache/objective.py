"""Which tokens count. "all" is the paper's loss; "long" takes the tokens that need the long context.

Most tokens are predicted from the last few hundred, whichever positions a layer attends to: they only add noise to the
comparison of plans. "long" keeps those whose loss falls by more than `LEAST_GAIN` from a short context (between half a
window and a window of tokens before them, and nothing else) to the whole document, measured once with every indexer on:

    counted  <=>  -log p(x | last window) + log p(x | document)  >  LEAST_GAIN

The same difference picks the key tokens of LongPPL (arXiv 2410.23771).

Letters: T tokens of a row.
"""

from collections.abc import Sequence

import torch

from godwit.base.errors import GodwitError, did_you_mean
from godwit.data.batch import IGNORED_LABEL
from godwit.dist.world import World
from godwit.indexcache.calibration import Row
from godwit.indexcache.engine import Engine
from godwit.ops.context import AttnContext

OBJECTIVES = ("all", "long")
WINDOW = 512
# Half a nat: the long context makes the token 1.65 times as likely. Far above what rounding or a changed far-away
# position does to a token that does not need it.
LEAST_GAIN = 0.5
# Fewer decide by accident.
LEAST_TOKENS = 32


def counted_rows(
    engine: Engine, rows: Sequence[Row], *, objective: str, world: World, window: int = WINDOW
) -> tuple[Row, ...]:
    """The rows with the labels that count under `objective`.

    Raises:
        GodwitError: an unknown objective, or too few tokens that need a long context.
    """
    if objective not in OBJECTIVES:
        raise GodwitError(f"objective {objective!r}: {did_you_mean(objective, OBJECTIVES)}")
    if objective == "all":
        return tuple(rows)
    own = {
        number: long_labels(engine, row, window=window)
        for number, row in enumerate(rows)
        if number % world.size == world.rank
    }
    labels = {number: labels_T for part in world.gather(own) for number, labels_T in part.items()}
    chosen = tuple(row.with_labels(labels[number]) for number, row in enumerate(rows))
    num_counted = sum(row.num_counted for row in chosen)
    if num_counted < LEAST_TOKENS:
        raise GodwitError(
            f"only {num_counted} calibration tokens gain {LEAST_GAIN} nats or more from context further away than "
            f"{window} tokens; add texts that need it with --data, more --rows, or use --objective all"
        )
    return chosen


@torch.inference_mode()
def long_labels(engine: Engine, row: Row, *, window: int) -> torch.Tensor:
    """The row's labels where the long context helps, -100 elsewhere."""
    half = window // 2
    far_T = torch.cat([torch.arange(end - start) >= window for start, end in row.context.bounds])
    labels_T = torch.where(far_T, row.labels_T, IGNORED_LABEL)
    counted_T = labels_T != IGNORED_LABEL
    pieces: list[tuple[int, int]] = []
    for start, end in row.context.bounds:
        pieces += [(first, min(first + window, end)) for first in range(start + half, end - half, half)]
    if not pieces or not counted_T.any():
        return torch.full_like(labels_T, IGNORED_LABEL)
    # Each piece predicts its second half: the pieces' halves lie end to end and cover what is counted.
    short = Row(
        tokens_T=torch.cat([row.tokens_T[first:last] for first, last in pieces]),
        labels_T=torch.cat(
            [
                torch.where(torch.arange(last - first) >= half, labels_T[first:last], IGNORED_LABEL)
                for first, last in pieces
            ]
        ),
        context=AttnContext(tuple(last - first for first, last in pieces), torch.device("cpu")),
    )
    gain = torch.cat([_losses(engine, part) for part in engine.rows((short,))]) - torch.cat(
        [_losses(engine, part) for part in engine.rows((row.with_labels(labels_T),))]
    )
    kept_T = counted_T.clone()
    kept_T[counted_T] = gain > LEAST_GAIN
    return torch.where(kept_T, labels_T, IGNORED_LABEL)


def _losses(engine: Engine, row: Row) -> torch.Tensor:
    run = engine.enter(row)
    state = run.first
    for layer in range(engine.num_layers):
        state = run.step(layer, state, engine.plan.is_full(layer))
    return run.losses(state)
