"""What indexers learn from, gathered while the layers run: every layer teaches the indexer it is served by.

A layer that shares positions (S) teaches the indexer of the F layer before it, so an indexer with m layers behind it
gets 1/(m + 1) of each one's loss (IndexCache, arXiv 2603.12201, equation 1; for plain DSA m is 0). The loss is taken
as soon as a layer has run: its queries and keys are needed no longer, and nothing of size T x T ever is.

    multi    sum_j 1/(m + 1) KL(p_j || q)    each layer in its turn; the indexer's states are handed down (equation 1)
    mean     KL(1/(m + 1) sum_j p_j || q)    all layers at once, their queries and keys kept till then (equation 2)
    single   KL(p_0 || q)                    the layer with the indexer alone: the ablation, and what others train

The first two have equal gradients; their values differ by the mean of KL(p_j || mean p), which no weight changes.

Letters: T tokens, K selected positions, L layers and prediction depths in order.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from godwit.nn.attention import AttnInput, IndexStates
from godwit.nn.layer import LayerOutput
from godwit.ops.index_topk import index_topk
from godwit.ops.indexer_kl import Teacher, indexer_kl

IndexLoss = Literal["multi", "mean", "single"]


class IndexLosses(NamedTuple):
    """Losses of all indexers of a batch.

    Attributes:
        loss: sum over tokens, weighted; the only part with a gradient, which reaches indexers' weights alone.
        kl_L: each layer's divergence from its indexer, summed over tokens; under "mean" and "single" one for each
            indexer.
        mass_L: dense attention that each layer gives to the positions its indexer would select, summed over tokens;
            None unless measured.
    """

    loss: Tensor
    kl_L: Tensor
    mass_L: Tensor | None


class Teaching:
    """Collects the lessons of one pass over the layers.

    Args:
        batch: what the layers are given; `batch.teach` is set.
        index_topk: positions an indexer selects.
        form: which layers teach an indexer, and how, see above.
        measure: look also at the attention mass of the selection (dense passes only; costs the selection).
    """

    def __init__(self, batch: AttnInput, *, index_topk: int, form: IndexLoss = "multi", measure: bool = False):
        assert not (measure and batch.sparse), "mass is measured against dense attention"
        self.batch, self.index_topk, self.form, self.measure = batch, index_topk, form, measure
        self._states: IndexStates | None = None
        self._measure_TK: Tensor | None = None
        # Layers that wait to teach together ("mean").
        self._waiting: list[Teacher] = []
        self._losses: list[Tensor] = []
        self._kl: list[Tensor] = []
        self._mass: list[Tensor] = []

    def add(self, output: LayerOutput, *, own: bool, num_served: int) -> None:
        """Take the lesson of a layer: `own` if it runs its indexer, which serves `num_served` layers with it."""
        assert output.lesson is not None, "the batch teaches"
        if own:
            self._states = output.lesson.states
            assert self._states is not None, "a layer that chooses has an indexer"
            if self.measure:
                self._measure_TK = index_topk(*self._states, self.batch.context, topk=self.index_topk)
            assert not self._waiting, "the indexer before has had all its lessons"
        assert self._states is not None, "a plan begins with F"
        if self.form == "single":
            if own:
                self._teach([output.lesson.teacher], output.index_TK, weight=1.0)
        elif self.form == "multi":
            self._teach([output.lesson.teacher], output.index_TK, weight=1 / num_served)
        else:
            self._waiting.append(output.lesson.teacher)
            if len(self._waiting) == num_served:
                self._teach(self._waiting, output.index_TK, weight=1.0)
                self._waiting = []

    def _teach(self, teachers: list[Teacher], index_TK: Tensor | None, *, weight: float) -> None:
        """One loss of the indexer at hand, from teachers that count alike."""
        assert self._states is not None, "there is an indexer to teach"
        found = indexer_kl(
            teachers,
            *self._states,
            self.batch.context,
            index_TK=index_TK,
            form="mean" if self.form == "mean" else "multi",
            measure_TK=self._measure_TK,
        )
        self._losses.append(found.loss * weight)
        self._kl.append(found.kl_T.sum())
        if found.mass_T is not None:
            self._mass.append(found.mass_T.sum())

    def losses(self) -> IndexLosses:
        """Everything so far."""
        mass_L = torch.stack(self._mass) if self._mass else None
        return IndexLosses(torch.stack(self._losses).sum(), torch.stack(self._kl), mass_L)
