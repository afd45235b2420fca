"""What choices of stripes keep of a model's attention, layer by layer, and what they do to its loss.

Kept mass and output error are taken on the dense model's own queries and keys, so that layers do not disturb each
other: kept mass of a row and head is the part of its dense softmax that falls on what the choice computes; the output
error of a layer is |O - O'| / |O| over all rows and heads. The loss is the model's with the choice in every layer.

Letters: T tokens, L tokens of one document, B rows of a block, H query heads, G key-value heads, D key width, E value
width, M methods, N rows x heads x layers.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.base.progress import Progress
from godwit.models.decoder import Decoder
from godwit.models.sample_attention.rivals import Choose
from godwit.nn.attention import Attend
from godwit.ops.attention import attention
from godwit.ops.context import AttnContext
from godwit.ops.sample_attention import Stripes, stripe_attention

ROW_BLOCK = 128
LOW_QUANTILE = 0.01


Key = TypeVar("Key", bound=Hashable)


class Row(NamedTuple):
    """One sequence: tokens int64 (T,), labels int64 (T,) with -100 where nothing is predicted, document borders."""

    tokens_T: Tensor
    labels_T: Tensor
    context: AttnContext


class LayerFigures(NamedTuple):
    """Of one layer: computed scores over those of dense attention, mean kept mass, output error."""

    density: float
    kept_mean: float
    output_error: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one method does to a model.

    Attributes:
        density: computed scores over those of dense attention.
        kept_mean, kept_low, kept_min: kept mass over all rows, heads and layers: mean, 1 % quantile, least.
        output_error: mean of the layers'.
        loss: nats per token with the method in every layer.
        loss_change: that less the dense loss.
        layers: by layer.
    """

    density: float
    kept_mean: float
    kept_low: float
    kept_min: float
    output_error: float
    loss: float
    loss_change: float
    layers: tuple[LayerFigures, ...]


class Record(NamedTuple):
    """One layer on one row, as sums that can be added over rows."""

    kept_N: Tensor
    entries: int
    dense_entries: int
    squared_error: float
    squared_output: float


class Probe(Generic[Key]):
    """Computes attention exactly, and beside it every method; `records[key]` grows by one `Record` a layer and row."""

    def __init__(self, methods: Mapping[Key, Choose]):
        self.methods = dict(methods)
        self.records: dict[Key, list[Record]] = {key: [] for key in methods}

    def __call__(self, q_THD: Tensor, k_TGD: Tensor, v_TGE: Tensor, context: AttnContext, *, scale: float) -> Tensor:
        """Exact attention."""
        out_THE = attention(q_THD, k_TGD, v_TGE, context, scale=scale)
        chosen = [choose(q_THD, k_TGD, context, scale) for choose in self.methods.values()]
        kept_MTH = kept_mass(q_THD, k_TGD, chosen, context, scale=scale)
        dense = sum((end - start) * (end - start + 1) // 2 for start, end in context.bounds) * q_THD.shape[1]
        squared_output = float(out_THE.double().square().sum())
        for key, stripes, kept_TH in zip(self.methods, chosen, kept_MTH, strict=True):
            own_THE = stripe_attention(q_THD, k_TGD, v_TGE, stripes, context, scale=scale)
            error = float((own_THE.double() - out_THE.double()).square().sum())
            entries = int(stripes.entries_SH(context).sum())
            self.records[key].append(Record(kept_TH.flatten().cpu(), entries, dense, error, squared_output))
        return out_THE


def kept_mass(
    q_THD: Tensor, k_TGD: Tensor, choices: Sequence[Stripes], context: AttnContext, *, scale: float
) -> Tensor:
    """float32 (M, T, H): part of each row's dense softmax that falls on what each choice computes."""
    kept_MTH = torch.zeros(len(choices), *q_THD.shape[:2], device=q_THD.device)
    num_groups = k_TGD.shape[1]
    for document, (start, end) in enumerate(context.bounds):
        k_GDL = k_TGD[start:end].float().permute(1, 2, 0)
        for first in range(start, end, ROW_BLOCK):
            last = min(first + ROW_BLOCK, end)
            q_GXD = q_THD[first:last].float().unflatten(1, (num_groups, -1)).permute(1, 2, 0, 3).flatten(1, 2)
            score_HBL = (q_GXD @ k_GDL[:, :, : last - start] * scale).view(q_THD.shape[1], last - first, -1)
            row_B1 = torch.arange(first - start, last - start, device=q_THD.device).unsqueeze(1)
            column_L = torch.arange(last - start, device=q_THD.device)
            p_HBL = score_HBL.masked_fill_(column_L > row_B1, float("-inf")).softmax(dim=-1)
            for method, stripes in enumerate(choices):
                near_BL = column_L > row_B1 - stripes.window_S[document]
                seen_HBL = near_BL | stripes.keep_TH[start:last].T.unsqueeze(1)
                kept_MTH[method, first:last] = (p_HBL * seen_HBL).sum(dim=-1).T
    return kept_MTH


def attending(choose: Choose) -> Attend:
    """Attention over what `choose` chooses, to be given to a model."""

    def attend(q_THD: Tensor, k_TGD: Tensor, v_TGE: Tensor, context: AttnContext, *, scale: float) -> Tensor:
        stripes = choose(q_THD, k_TGD, context, scale)
        return stripe_attention(q_THD, k_TGD, v_TGE, stripes, context, scale=scale)

    return attend


@torch.inference_mode()
def mean_loss(model: Decoder, rows: Sequence[Row], attend: Attend | None = None) -> float:
    """Nats per labelled token over all rows."""
    total, num_labels = 0.0, 0
    for row in rows:
        hidden_TD = model.features(row.tokens_T, row.context, dense=True, attend=attend).hidden_TD
        labelled_T = row.labels_T >= 0
        logits_TV = model.logits(hidden_TD[labelled_T]).float()
        total += float(F.cross_entropy(logits_TV, row.labels_T[labelled_T], reduction="sum"))
        num_labels += int(labelled_T.sum())
    if not num_labels:
        raise GodwitError("no token has a label, so there is no loss to measure; give rows of at least two tokens")
    return total / num_labels


def measure(model: Decoder, rows: Sequence[Row], methods: Mapping[Key, Choose]) -> tuple[float, dict[Key, Figures]]:
    """The dense model's loss, and the figures of each method under its key."""
    probe = Probe(methods)
    with Progress((1 + len(methods)) * len(rows), what="measuring", unit="passes") as progress:
        dense_loss = mean_loss(model, rows, probe)
        progress.advance(len(rows))
        figures: dict[Key, Figures] = {}
        for key, choose in methods.items():
            loss = mean_loss(model, rows, attending(choose))
            figures[key] = _figures(probe.records[key], model.config.num_hidden_layers, loss, dense_loss)
            progress.advance(len(rows))
    return dense_loss, figures


def _figures(records: Sequence[Record], num_layers: int, loss: float, dense_loss: float) -> Figures:
    kept_N = torch.cat([record.kept_N for record in records]).sort().values
    layers = tuple(_layer(records[layer::num_layers]) for layer in range(num_layers))
    return Figures(
        density=sum(record.entries for record in records) / sum(record.dense_entries for record in records),
        kept_mean=float(kept_N.double().mean()),
        kept_low=float(kept_N[int(LOW_QUANTILE * (kept_N.numel() - 1))]),
        kept_min=float(kept_N[0]),
        output_error=sum(layer.output_error for layer in layers) / num_layers,
        loss=loss,
        loss_change=loss - dense_loss,
        layers=layers,
    )


def _layer(records: Sequence[Record]) -> LayerFigures:
    kept_N = torch.cat([record.kept_N for record in records])
    error = sum(record.squared_error for record in records) / sum(record.squared_output for record in records)
    return LayerFigures(
        density=sum(record.entries for record in records) / sum(record.dense_entries for record in records),
        kept_mean=float(kept_N.double().mean()),
        output_error=error**0.5,
    )
