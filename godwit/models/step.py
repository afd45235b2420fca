"""A decoding step on a CPU by the compiled layers of `godwit.nn.step`: embedding, layers, output head, and no more.

One is made for a cache at its first use and lives with it. It reads the model's parameters where they are.
"""

import logging
from collections.abc import Sequence as Many
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from godwit.base.errors import GodwitError
from godwit.nn.cache import NOT_FINITE, Cache, LayerCache
from godwit.nn.indexer import Indexer
from godwit.nn.layer import DecoderLayer
from godwit.nn.pages import PAGE, Sequence
from godwit.nn.step import weights
from godwit.ops._threads import match_threads
from godwit.ops.backends import asked
from godwit.ops.index_topk_paged import tile_width
from godwit.ops.index_topk_paged.compiled import num_runs

if TYPE_CHECKING:
    from godwit.models.decoder import Decoder

log = logging.getLogger(__name__)

# Tokens of one step. Beyond, PyTorch's matrix products make up for what it costs to start them. One thread of a busy
# machine, milliseconds of a step compiled against modules: nano 9 and 164 at 8 tokens, 187 and 3,428 at 32.
FEW = 32


class LayerStep(NamedTuple):
    """What the compiled call of a layer takes of it; `full` if it runs its own indexer.

    `pools` is the latents' `(N, W)`, or keys and values, `(G, N, A)` each.
    """

    full: bool
    attention: weights.Latent | weights.Grouped
    index: weights.Index
    feed: weights.Feed
    pools: tuple[np.ndarray, ...]
    tiles: np.ndarray

    @classmethod
    def of(cls, block: nn.Module, pools: LayerCache, *, indexer: Indexer | None) -> "LayerStep":
        """Of a layer that `why_not` has nothing against; `indexer` if it runs its own."""
        assert isinstance(block, DecoderLayer), "see why_not"
        tiles = np.zeros((0, 8, tile_width()), np.float32) if pools.tiles_MBW is None else pools.tiles_MBW.numpy()
        blocks = weights.attention(block), weights.index(indexer), weights.feed(block)
        v_GNE = pools.v_GNE
        arrays = (pools.k_GNA[0].numpy(),) if v_GNE is None else (pools.k_GNA.numpy(), v_GNE.numpy())
        return cls(indexer is not None, *blocks, arrays, tiles)

    def run(self, x: np.ndarray, place: weights.Place, rows: np.ndarray, num_runs: int, sparse: bool) -> None:
        """Run the layer over x, in place; see `godwit.nn.step._kernel.layer`.

        Raises:
            GodwitError: the index keys hold NaN or Inf.
        """
        if isinstance(self.attention, weights.Grouped):
            from godwit.nn.step._grouped import layer
        else:
            from godwit.nn.step._kernel import layer

        blocks = self.attention, self.index, self.feed
        if not layer(x, *blocks, place, *self.pools, self.tiles, rows, num_runs, sparse):
            raise GodwitError(NOT_FINITE)


class CompiledStep:
    """The step of one model over one cache."""

    def __init__(self, model: "Decoder", *, cache: Cache):
        self.model = model
        self.reason = why_not(model)
        if self.reason is not None:
            log.info("decoding: the compiled step is passed over: %s", self.reason)
            return
        self.embed, self.head = (weights.array(x) for x in (model.model.embed_tokens.weight, model.lm_head_weight))
        self.norm, self.eps = weights.array(model.model.norm.weight), np.float32(model.model.norm.eps)
        self.layers: list[LayerStep] = []
        self.indexers: list[Indexer] = []
        for number, (block, pools) in enumerate(zip(model.decoder_layers(), cache.layers, strict=True)):
            indexer = weights.indexer_of(block) if cache.plan is not None and cache.plan.is_full(number) else None
            if indexer is not None:
                self.indexers.append(indexer)
            self.layers.append(LayerStep.of(block, pools, indexer=indexer))
        self.rope = model.rope
        self.cos = self.sin = np.zeros((0, 0), np.float32)

    @property
    def most(self) -> int:
        """Tokens that it can do in a call now: none where backends were asked for by name."""
        if self.reason is not None or asked() or any(indexer.two_level is not None for indexer in self.indexers):
            return 0
        return FEW

    def __call__(
        self, tokens_T: Tensor, sequences: Many[Sequence], lengths: tuple[int, ...], *, last: bool, indices: bool
    ) -> tuple[Tensor, dict[int, Tensor], Tensor]:
        """Logits, rows that layers chose (only if asked for) and states, see `godwit.models.extend.Extended`."""
        # numba takes a second to import; only those who decode pay for it.
        from godwit.nn.step import _kernel
        from godwit.ops.index_topk_paged._kernel import all_rows

        match_threads()
        starts = [sequence.length for sequence in sequences]
        place, runs = self.place(sequences, starts, lengths)
        most, topk = int(place.visible.max()), self.model.config.index_topk_or_none
        sparse = topk is not None and most > topk
        rows = np.empty((tokens_T.shape[0], topk if topk is not None and sparse else most), np.int32)
        if not sparse:
            all_rows(place.page, place.table, place.document, place.visible, rows)
        x, chosen = self.embed[tokens_T.numpy()], {}
        for number, one in enumerate(self.layers):
            one.run(x, place, rows, runs, sparse)
            if indices and one.full and sparse:
                chosen[number] = torch.from_numpy(rows.copy())
        normed = _kernel.normalised(x, self.norm, self.eps)
        states = normed[np.cumsum(lengths) - 1] if last else normed
        return torch.from_numpy(self.logits(states)), chosen, torch.from_numpy(normed)

    def logits(self, states: np.ndarray) -> np.ndarray:
        """The output head, `(S, V)`, of states behind their norm."""
        from godwit.nn.step import _kernel

        out = np.empty((states.shape[0], self.head.shape[0]), np.float32)
        _kernel.logits(states, self.head, torch.get_num_threads(), out)
        return out

    def place(self, sequences: Many[Sequence], starts: Many[int], lengths: Many[int]) -> tuple[weights.Place, int]:
        """Where tokens from these positions on lie, and in how many shares their keys are scored."""
        positions, rows, document = [], [], []
        for number, (sequence, start, new) in enumerate(zip(sequences, starts, lengths, strict=True)):
            for position in range(start, start + new):
                positions.append(position)
                rows.append(sequence.pages[position // PAGE] * PAGE + position % PAGE)
                document.append(number)
        table = np.zeros((len(sequences), max(len(sequence.pages) for sequence in sequences)), np.int32)
        for number, sequence in enumerate(sequences):
            table[number, : len(sequence.pages)] = sequence.pages
        position = np.array(positions, np.int64)
        cos, sin = self._angles(max(positions) + 1)
        numbers = np.array(rows, np.int64), table, np.array(document, np.int64), position + 1
        return weights.Place(cos[position], sin[position], *numbers, PAGE), num_runs(max(positions) + 1)

    def _angles(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Tables of all positions up to some beyond, made anew when they run out or the model's rotation changes."""
        if self.rope is not self.model.rope or length > self.cos.shape[0]:
            self.rope = self.model.rope
            tables = self.rope.tables(torch.arange(max(1024, 2 * length)))
            self.cos, self.sin = tables.cos_TP.numpy(), tables.sin_TP.numpy()
        return self.cos, self.sin


def why_not(model: "Decoder") -> str | None:
    """Why a model has no compiled step, or None."""
    reasons = (weights.why_not(layer) for layer in model.decoder_layers())
    return next((reason for reason in reasons if reason is not None), None)
