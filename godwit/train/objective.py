"""The training loss as a module: tokens in, one scalar and its parts out.

    loss = CE(next token) + mtp_weight * mean_k CE(token k + 2) + balance_weight * balance  [+ KL of the indexers]

The indexers' part reaches indexers only and the others never reach them (`godwit.models.teaching`).

Each part is normalised by counts of the *whole optimiser step over all ranks* (labels of that head, tokens), which
the caller sums up beforehand. So gradients simply add up over micro-batches and ranks, and a step does not depend on
how it was cut. MTP: DeepSeek-V3, arXiv 2412.19437, section 2.2; balance loss: the same, equations 17-20.

The module is the root of sharding (`godwit.dist.parallelize`): every parameter is used inside its `forward`.
Shape letters: T = tokens, H = heads (0 is the main one, k > 0 the MTP depth k - 1), L = MoE layers, E = experts.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from godwit.data.batch import Batch
from godwit.models.decoder import Decoder
from godwit.models.teaching import IndexLoss
from godwit.nn.context import AttnContext
from godwit.train.config import Trains
from godwit.train.cross_entropy import IGNORE, chunked_cross_entropy


@dataclass(frozen=True)
class MicroBatch:
    """What one rank takes through the model at once."""

    tokens_T: Tensor
    context: AttnContext
    labels_HT: tuple[Tensor, ...]

    @classmethod
    def of(cls, batch: Batch, *, mtp_depths: int, device: torch.device) -> "MicroBatch":
        """Add the labels of the MTP depths to a batch of the loader and move it to `device`."""
        context = AttnContext.from_cu_seqlens(batch.cu_seqlens_S, device)
        labels_T = batch.labels_T.to(device)
        labels_HT = (labels_T, *(shifted_labels(labels_T, context.doc_ids_T, k + 1) for k in range(mtp_depths)))
        return cls(batch.tokens_T.to(device), context, labels_HT)

    def counts(self) -> Tensor:
        """Labels of each head, then the number of tokens: int64 (H + 1,)."""
        labels = [(labels_T != IGNORE).sum() for labels_T in self.labels_HT]
        return torch.stack([*labels, labels[0].new_tensor(self.tokens_T.numel())])


def shifted_labels(labels_T: Tensor, doc_ids_T: Tensor, by: int) -> Tensor:
    """Labels `by` tokens further on in the same document, `IGNORE` where the document ends before."""
    shifted_T = torch.full_like(labels_T, IGNORE)
    if by < labels_T.numel():
        same_T = doc_ids_T[by:] == doc_ids_T[:-by]
        shifted_T[:-by] = labels_T[by:].where(same_T, IGNORE)
    return shifted_T


class Scales(NamedTuple):
    """What each part of the loss is multiplied with in this step."""

    heads_H: tuple[float, ...]
    balance: float
    index: float = 0.0

    @classmethod
    def of(cls, counts: Tensor, *, mtp_weight: float, balance_weight: float) -> "Scales":
        """From the step's global `counts` (as `MicroBatch.counts` orders them)."""
        *labels_H, num_tokens = (float(count) for count in counts.tolist())
        weights_H = [1.0] + [mtp_weight / (len(labels_H) - 1) for _ in labels_H[1:]]
        heads_H = tuple(weight / labels if labels else 0.0 for weight, labels in zip(weights_H, labels_H))
        return cls(heads_H, balance_weight / num_tokens, 1 / num_tokens)


class Losses(NamedTuple):
    """`total` is for `backward`; the rest are plain sums over the micro-batch for the log.

    `sums_H` sums each head's losses, `balance_sum` the balance loss over tokens, `load_LE` counts the tokens that
    each expert got; `index_kl_L` and `index_mass_L` are those of `IndexLosses`, if indexers are looked at.
    (A NamedTuple, because sharding hooks look for tensors inside tuples.)
    """

    total: Tensor
    sums_H: Tensor
    balance_sum: Tensor
    load_LE: Tensor
    index_kl_L: Tensor | None = None
    index_mass_L: Tensor | None = None


class Objective(nn.Module):
    """A decoder with its training losses.

    Args:
        model: the decoder.
        ce_chunk_tokens: tokens whose logits exist at one time.
        recompute: recompute layers in the backward pass instead of keeping their activations.
    """

    def __init__(self, model: Decoder, *, ce_chunk_tokens: int = 2048, recompute: bool = False):
        super().__init__()
        self.model = model
        self.ce_chunk_tokens = ce_chunk_tokens
        self.recompute = recompute

    def forward(
        self,
        batch: MicroBatch,
        scales: Scales,
        dense: bool = True,
        trains: Trains = "model",
        index_loss: IndexLoss = "multi",
        measure: bool = False,
    ) -> Losses:
        """Losses of one micro-batch, with as many MTP depths as it has labels for.

        `dense` lets tokens attend to their whole document (no indexer); `trains` and `index_loss` are the stage's;
        `measure` adds the attention mass on what the indexers would select.
        """
        teach = trains != "model"
        features = self.model.features(
            batch.tokens_T,
            batch.context,
            dense=dense,
            num_mtp_depths=len(batch.labels_HT) - 1,
            recompute=self.recompute and torch.is_grad_enabled(),
            teach=teach,
            index_loss=index_loss,
            measure=measure,
        )
        # Nothing learns from the words' loss where only indexers do: it is for the log.
        with torch.no_grad() if trains == "indexers" else nullcontext():
            cross_entropy = chunked_cross_entropy(
                [features.hidden_TD, *features.mtp_hidden],
                self.model.lm_head_weight,
                batch.labels_HT,
                scales_H=scales.heads_H,
                chunk_tokens=self.ce_chunk_tokens,
            )
        balance_sum = features.balance_loss * batch.tokens_T.numel()
        total = cross_entropy.total + scales.balance * balance_sum
        losses = Losses(total, cross_entropy.sums_H, balance_sum.detach(), features.load_LE.detach())
        if features.index_losses is None:
            return losses
        loss, kl_L, mass_L = features.index_losses
        return losses._replace(total=total + scales.index * loss, index_kl_L=kl_L, index_mass_L=mass_L)
