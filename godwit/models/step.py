"""A decoding step on a CPU by the compiled layers of `godwit.nn.step`: embedding, layers, output head, and no more.

One is made for a cache at its first use and lives with it. It reads the model's parameters where they are.
"""

import logging
from collections.abc import Sequence as Many
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from godwit.nn.cache import Cache
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

# Tokens of one step. Beyond, PyTorch's matrix products make up for what it costs to start them.
FEW = 8


class LayerStep(NamedTuple):
    """What the compiled call of a layer takes of it; `full` if it runs its own indexer."""

    full: bool
    latent: weights.Latent
    index: weights.Index
    feed: weights.Feed
    pool: np.ndarray
    tiles: np.ndarray


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
            assert isinstance(block, DecoderLayer), "see why_not"
            full = cache.plan is not None and cache.plan.is_full(number)
            indexer = weights.indexer_of(block) if full else None
            if indexer is not None:
                self.indexers.append(indexer)
            tiles = np.zeros((0, 8, tile_width()), np.float32) if pools.tiles_MBW is None else pools.tiles_MBW.numpy()
            pool = pools.k_GNA[0].numpy()
            blocks = weights.latent(block), weights.index(indexer), weights.feed(block)
            self.layers.append(LayerStep(full, *blocks, pool, tiles))
        self.rope = model.rope
        self.cos = self.sin = np.zeros((0, 0), np.float32)

    def takes(self, num_tokens: int) -> bool:
        """Whether it can do a call of so many tokens now: not where backends were asked for by name."""
        two_level = any(indexer.two_level is not None for indexer in self.indexers) if self.reason is None else False
        return self.reason is None and num_tokens <= FEW and not asked() and not two_level

    def __call__(
        self, tokens_T: Tensor, sequences: Many[Sequence], lengths: tuple[int, ...], *, last: bool, indices: bool
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """As `godwit.models.extend.extend`; rows that layers chose only if asked for."""
        # numba takes a second to import; only those who decode pay for it.
        from godwit.nn.step import _kernel
        from godwit.ops.index_topk_paged._kernel import all_rows

        match_threads()
        place, runs = self._place(sequences, lengths)
        most, topk = int(place.visible.max()), self.model.config.index_topk_or_none
        sparse = topk is not None and most > topk
        rows = np.empty((tokens_T.shape[0], topk if topk is not None and sparse else most), np.int32)
        if not sparse:
            all_rows(place.page, place.table, place.document, place.visible, rows)
        x, chosen = self.embed[tokens_T.numpy()], {}
        for number, one in enumerate(self.layers):
            _kernel.layer(x, one.latent, one.index, one.feed, place, one.pool, one.tiles, rows, runs, sparse)
            if indices and one.full and sparse:
                chosen[number] = torch.from_numpy(rows.copy())
        if last:
            x = x[np.cumsum(lengths) - 1]
        out = np.empty((x.shape[0], self.head.shape[0]), np.float32)
        _kernel.logits(x, self.norm, self.eps, self.head, torch.get_num_threads(), out)
        return torch.from_numpy(out), chosen

    def _place(self, sequences: Many[Sequence], lengths: tuple[int, ...]) -> tuple[weights.Place, int]:
        positions, rows, document = [], [], []
        for number, (sequence, new) in enumerate(zip(sequences, lengths, strict=True)):
            for position in range(sequence.length, sequence.length + new):
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
