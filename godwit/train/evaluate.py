"""Validation loss on the same rows every time, in nats per token and bits per byte.

Bits per byte = nats / ln 2 / bytes of the predicted tokens; it compares runs with different tokenizers. The MTP layer
and the balance loss take no part.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from godwit.data.batch import IGNORED_LABEL
from godwit.dist.parallelize import reshard
from godwit.text.tokenizer import Tokenizer
from godwit.train.config import Trains
from godwit.train.objective import MicroBatch, Scales
from godwit.train.schedule import micro_batches
from godwit.train.state import TrainState, make_loader


class IndexQuality(NamedTuple):
    """What indexers are worth: the loss with dense attention, and for each layer two means over tokens.

    Attributes:
        dense_loss: of the same model without selection.
        kl_L: divergence of the layer's dense attention from the indexer it uses.
        recall_L: share of that attention on what the indexer would select.
        worst_F: for each indexer, the least recall among the layers it serves.
    """

    dense_loss: float
    kl_L: tuple[float, ...]
    recall_L: tuple[float, ...]
    worst_F: tuple[float, ...]


class Evaluation(NamedTuple):
    """Mean loss per token in nats, and bits per byte of text; with more about the indexers if the stage trains them."""

    loss: float
    bits_per_byte: float
    indexers: IndexQuality | None = None


@torch.no_grad()
def evaluate(state: TrainState) -> Evaluation | None:
    """Loss on the first `eval_rows` validation rows of the current stage; None if nothing was held out."""
    config, world = state.config, state.world
    stage = min(state.position.stage, len(config.stages) - 1)
    prepared = state.prepared[stage]
    held_out = prepared.num_tokens("valid")
    if not held_out:
        return None
    chosen = config.stages[stage]
    num_rows = max(min(config.eval_rows, held_out // chosen.seq_len) // world.size, 1) * world.size
    # Where indexers are trained, the loss that counts is that over what they select.
    teaches = chosen.trains != "model"
    found = _pass(state, stage, num_rows, dense=chosen.attention == "dense" and not teaches)
    if not teaches:
        return found
    return found._replace(indexers=_pass(state, stage, num_rows, dense=True, measure=True).indexers)


def _pass(state: TrainState, stage: int, num_rows: int, *, dense: bool, measure: bool = False) -> Evaluation:
    """The loss on the first `num_rows` validation rows of a stage; `measure` looks at the indexers as well."""
    config, world, prepared = state.config, state.world, state.prepared[stage]
    loader = make_loader(state, stage, split="valid")
    sums = torch.zeros(3, dtype=torch.float64, device=world.device)
    index_sums: list[Tensor] = []
    state.objective.eval()
    for size in micro_batches(num_rows, world_size=world.size, micro_batch_rows=config.micro_batch_rows):
        batch = loader.next(size)
        micro = MicroBatch.of(batch, mtp_depths=0, device=world.device)
        trains: Trains = "indexers" if measure else "model"
        losses = state.objective(micro, Scales((1.0,), 0.0), dense=dense, trains=trains, measure=measure)
        num_bytes = predicted_bytes(prepared.tokenizer, batch.labels_T)
        sums += torch.stack([losses.sums_H[0].double(), micro.counts()[0].double(), sums.new_tensor(num_bytes)])
        if losses.index_kl_L is not None and losses.index_mass_L is not None:
            index_sums.append(torch.stack([losses.index_kl_L, losses.index_mass_L]).double())
    state.objective.train()
    reshard(state.objective)
    loss, labels, num_bytes = world.sum(sums).tolist()
    mean_loss = loss / max(labels, 1.0)
    quality = None
    if measure:
        num_tokens = num_rows * config.stages[stage].seq_len
        kl_L, recall_L = (world.sum(torch.stack(index_sums).sum(0)) / num_tokens).tolist()
        plan = config.model.plan
        assert plan is not None, "a model with indexers has a plan"
        worst_F = tuple(min(recall_L[layer] for layer in served) for served in plan.groups)
        quality = IndexQuality(mean_loss, tuple(kl_L), tuple(recall_L), worst_F)
    return Evaluation(mean_loss, loss / math.log(2) / max(num_bytes, 1.0), quality)


def predicted_bytes(tokenizer: Tokenizer, labels_T: Tensor) -> int:
    """Bytes of text behind the labelled tokens; special tokens stand for none."""
    ids = labels_T[labels_T != IGNORED_LABEL].tolist()
    return len(tokenizer.decode_bytes([token for token in ids if tokenizer.special_token(token) is None]))
