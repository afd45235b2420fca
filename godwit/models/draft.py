"""Drafts by the prediction layer (multi-token prediction), for speculative decoding over a cache.

The layer sees a token's state after the final norm and the token behind it, and guesses the one after
(`godwit.nn.layer`). Its keys lie in the pages of the sequence, at the token's own position. Step 0 takes the tokens
that the model has just computed, runs the layer's own indexer and stores keys. Steps from 1 on take the guess and the
layer's own state, one position further, and attend to step 0's selection and the rows they add: no index scores
(GLM-5.2 reuses them so). Rows of guesses are overwritten when the tokens at their places are known.

A draft is the likeliest guess. What comes of it is decided by who verifies it; nothing here changes a distribution.

Letters: T tokens, S sequences, D hidden, K rows attended to.
"""

from collections.abc import Sequence as Many
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.models.extend import step_of
from godwit.models.step import CompiledStep, LayerStep
from godwit.nn.attention import AttnInput
from godwit.nn.cache import Cache, Extension, LayerCache, LayerExtension
from godwit.nn.layer import PredictionLayer
from godwit.nn.pages import PAGE, Sequence
from godwit.nn.step import weights
from godwit.ops.context import AttnContext

if TYPE_CHECKING:
    from godwit.models.decoder import Decoder


class Drafter:
    """Proposes tokens behind sequences.

    Args:
        model: with a prediction layer.
        cache: made by `model.new_cache(mtp=True)`.
        num_drafts: tokens to propose at most.
    """

    def __init__(self, model: "Decoder", *, cache: Cache, num_drafts: int):
        if cache.mtp is None:
            raise GodwitError("this cache has no room for the prediction layer; make one with new_cache(mtp=True)")
        self.model, self.cache, self.pool, self.num_drafts = model, cache, cache.mtp, num_drafts
        layer = model.model.layers[model.config.num_hidden_layers]
        assert isinstance(layer, PredictionLayer), type(layer)
        self.layer = layer
        step = step_of(model, cache)
        self._compiled = None
        if step.reason is None and weights.why_not(layer) is None:
            self._compiled = _Compiled(layer, self.pool, step)

    @torch.inference_mode()
    def __call__(
        self,
        hidden_TD: Tensor,
        following: Many[int],
        sequences: Many[Sequence],
        counts: Many[int],
        wanted: Many[bool],
    ) -> list[list[int]]:
        """Take the last `counts` tokens of each sequence and propose what comes behind; nothing where not `wanted`.

        Args:
            hidden_TD: their states after the final norm.
            following: the token behind each of them.
            sequences: with these tokens in the cache.
        """
        starts = [sequence.length - count for sequence, count in zip(sequences, counts, strict=True)]
        out_TD, rows_TK = self._run(hidden_TD, following, sequences, starts, tuple(counts), None)
        ends = np.cumsum(counts) - 1
        drafts: list[list[int]] = [[] for _ in sequences]
        going = [number for number, want in enumerate(wanted) if want]
        hidden_SD, rows_SK = (_at(x_TX, [int(ends[number]) for number in going]) for x_TX in (out_TD, rows_TK))
        for step in range(1, self.num_drafts + 1):
            if not going:
                break
            for number, token in zip(going, self._likeliest(hidden_SD), strict=True):
                drafts[number].append(token)
            if step == self.num_drafts:
                break
            # A guess has a row only in a page that its sequence has anyway.
            stay = [
                place
                for place, number in enumerate(going)
                if sequences[number].length + step <= len(sequences[number].pages) * PAGE
            ]
            going = [going[place] for place in stay]
            if not going:
                break
            hidden_SD, rows_SK = _at(hidden_SD, stay), _at(rows_SK, stay)
            group = [sequences[number] for number in going]
            at = [sequence.length + step - 1 for sequence in group]
            if rows_SK is not None:
                new = torch.tensor([one.pages[end // PAGE] * PAGE + end % PAGE for one, end in zip(group, at)])
                rows_SK = torch.cat((rows_SK, new.to(rows_SK).unsqueeze(1)), dim=1)
            guesses = [drafts[number][-1] for number in going]
            hidden_SD, _ = self._run(hidden_SD, guesses, group, at, (1,) * len(group), rows_SK)
        return drafts

    def _likeliest(self, hidden_SD: Tensor) -> list[int]:
        if self._compiled is not None:
            return self._compiled.step.logits(np.ascontiguousarray(hidden_SD.numpy())).argmax(axis=1).tolist()
        return self.model.logits(hidden_SD).argmax(dim=-1).tolist()

    def _run(
        self,
        hidden_TD: Tensor,
        following: Many[int],
        sequences: Many[Sequence],
        starts: Many[int],
        counts: tuple[int, ...],
        rows_TK: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """One depth over tokens from these positions on: its states, and rows attended to if they were selected."""
        tokens_T = torch.tensor(following, device=hidden_TD.device)
        if self._compiled is not None and len(following) <= self._compiled.step.most:
            return self._compiled(hidden_TD, tokens_T, sequences, starts, counts, rows_TK)
        ahead = [Sequence(start, one.pages) for one, start in zip(sequences, starts, strict=True)]
        batch = Extension.of(ahead, counts, hidden_TD.device)
        topk = self.model.config.index_topk_or_none
        sparse = topk is not None and batch.context.max_seqlen > topk
        # Rows that were given replace the layer's own choice; then it keeps no index keys either.
        pool = self.pool if rows_TK is None else self.pool._replace(tiles_MBW=None)
        attn_input = AttnInput(
            AttnContext(counts, hidden_TD.device),
            self.model.rope.tables(batch.position_T),
            sparse,
            cache=LayerExtension(batch, pool),
        )
        embedded_TD = self.model.model.embed_tokens(tokens_T)
        output = self.layer(hidden_TD, attn_input, rows_TK, embedded_TD=embedded_TD)
        return output.x_TD, output.index_TK


def _at(x_TX: Any, places: list[int]) -> Any:
    """Rows of a tensor, or None of None; one row without a copy."""
    if x_TX is None or len(places) == 1:
        return None if x_TX is None else x_TX[places[0] : places[0] + 1]
    return x_TX[torch.tensor(places, dtype=torch.int64, device=x_TX.device)]


class _Compiled:
    """The prediction layer by the compiled loops, for a few tokens on a CPU."""

    def __init__(self, layer: PredictionLayer, pool: LayerCache, step: CompiledStep):
        indexer = weights.indexer_of(layer) if pool.tiles_MBW is not None else None
        self.step = step
        self.own = LayerStep.of(layer, pool, indexer=indexer)
        self.reusing = LayerStep.of(layer, pool, indexer=None)
        self.weights = weights.prediction(layer)

    def __call__(
        self,
        hidden_TD: Tensor,
        tokens_T: Tensor,
        sequences: Many[Sequence],
        starts: Many[int],
        counts: tuple[int, ...],
        rows_TK: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """As `Drafter._run`."""
        from godwit.nn.step import _kernel
        from godwit.ops.index_topk_paged._kernel import all_rows

        place, runs = self.step.place(sequences, starts, counts)
        most, topk = int(place.visible.max()), self.step.model.config.index_topk_or_none
        sparse = topk is not None and most > topk
        one = self.own if rows_TK is None else self.reusing
        if rows_TK is not None:
            rows = np.ascontiguousarray(rows_TK.numpy())
        else:
            rows = np.empty((tokens_T.shape[0], topk if topk is not None and sparse else most), np.int32)
            if not sparse:
                all_rows(place.page, place.table, place.document, place.visible, rows)
        x = _kernel.joined(self.step.embed[tokens_T.numpy()], np.ascontiguousarray(hidden_TD.numpy()), self.weights)
        one.run(x, place, rows, runs, sparse)
        out = _kernel.normalised(x, self.weights.norm, self.weights.eps)
        return torch.from_numpy(out), torch.from_numpy(rows) if sparse else None
