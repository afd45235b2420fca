"""The lightning indexer of DeepSeek Sparse Attention: cheap scores that choose what the main attention looks at.

    q = wq_b(c_q)  (H heads of width A);  k = LayerNorm(wk(x))  (one key);  w = weights_proj(x) in float32
    I[t, s] = sum_j w[t, j] H^-0.5 * ReLU(q[t, j] . k[s] A^-0.5)

The **first** `rope_width` of the A dimensions are rotated (in the main attention it is the last ones): interleaved in
GLM-5, half-split in DeepSeek-V3.2. `k_norm` is a LayerNorm with bias and eps 1e-6. c_q is the *normed* query latent.
Source: DeepSeek-V3.2 (arXiv 2512.02556) and `glm_moe_dsa`, `deepseek_v32` in Transformers. Over grouped-query
attention there is no query latent: c_q is the layer's input, and `q_lora_rank` its width.

Letters: T tokens, D hidden, Q query latent, H index heads, A index width, R rotated width, K selected positions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from godwit.base.errors import GodwitError
from godwit.nn.attention import AttnInput, IndexStates
from godwit.nn.pages import PAGE
from godwit.ops.index_topk import index_topk
from godwit.ops.index_topk_paged import index_topk_paged
from godwit.ops.index_two_level import index_two_level
from godwit.ops.rotate import rotate

# Tokens up to which dense attention over a cache reads rows where they lie.
FEW = 16


@dataclass(frozen=True, kw_only=True)
class TwoLevel:
    """Selection by `godwit.ops.index_two_level`: exact scores only inside `num_blocks` blocks of `block` keys.

    It needs no training and no weights; 64 blocks of 128 are HISA's (arXiv 2603.28458) for an `index_topk` of 2,048.
    """

    block: int = 128
    num_blocks: int = 64


class Indexer(nn.Module):
    """Scores earlier tokens and selects the best `index_topk` of them."""

    def __init__(
        self,
        *,
        hidden_size: int,
        q_lora_rank: int,
        index_n_heads: int,
        index_head_dim: int,
        index_topk: int,
        rope_interleaved: bool,
    ):
        super().__init__()
        self.head_dim = index_head_dim
        self.index_topk = index_topk
        self.rope_interleaved = rope_interleaved
        self.scale = index_n_heads**-0.5 * index_head_dim**-0.5
        self.wq_b = nn.Linear(q_lora_rank, index_n_heads * index_head_dim, bias=False)
        self.wk = nn.Linear(hidden_size, index_head_dim, bias=False)
        self.k_norm = nn.LayerNorm(index_head_dim, eps=1e-6)
        self.weights_proj = nn.Linear(hidden_size, index_n_heads, bias=False)
        # How it searches, not what it is: no part of a checkpoint or a config. See `set_two_level`.
        self.two_level: TwoLevel | None = None

    def states(self, x_TD: Tensor, c_q_TQ: Tensor, batch: AttnInput) -> IndexStates:
        """Index queries, keys and head weights of the tokens."""
        q_THA, w_TH = self._queries(x_TD, c_q_TQ, batch)
        return IndexStates(q_THA, self._keys(x_TD, batch), w_TH)

    def _queries(self, x_TD: Tensor, c_q_TQ: Tensor, batch: AttnInput) -> tuple[Tensor, Tensor]:
        q_THA = self._rotate(self.wq_b(c_q_TQ).unflatten(1, (-1, self.head_dim)), batch)
        # float32 before scaling: rounding here in bfloat16 flips which positions win.
        return q_THA, self.weights_proj(x_TD).float() * self.scale

    def _keys(self, x_TD: Tensor, batch: AttnInput) -> Tensor:
        return self._rotate(self.k_norm(self.wk(x_TD)).unsqueeze(1), batch).squeeze(1)

    @torch.no_grad()
    def forward(self, x_TD: Tensor, c_q_TQ: Tensor, batch: AttnInput) -> Tensor:
        """Selected flat positions, int32 `(T, K)`; ties go to the lower position."""
        return self.select(self.states(x_TD, c_q_TQ, batch), batch)

    def select(self, states: IndexStates, batch: AttnInput) -> Tensor:
        """The positions that states choose."""
        if self.two_level is not None:
            block, num_blocks = self.two_level.block, self.two_level.num_blocks
            return index_two_level(*states, batch.context, topk=self.index_topk, block=block, num_blocks=num_blocks)
        return index_topk(*states, batch.context, topk=self.index_topk)

    @torch.no_grad()
    def over_cache(self, x_TD: Tensor, c_q_TQ: Tensor, batch: AttnInput) -> Tensor | None:
        """Keep the tokens' index keys; under sparse attention, the rows that they select among all there are.

        Raises:
            GodwitError: it is to search in two levels, which pages have no form of.
        """
        assert batch.cache is not None, "called for batches with a cache"
        batch.cache.store_index_keys(self._keys(x_TD, batch))
        if not batch.sparse:
            return None
        if self.two_level is not None:
            raise GodwitError("a cache cannot be searched in two levels; type set_two_level(model, None)")
        (extension, layer), (q_THA, w_TH) = batch.cache, self._queries(x_TD, c_q_TQ, batch)
        assert layer.tiles_MBW is not None, "its keys were just stored there"
        return index_topk_paged(
            q_THA,
            layer.tiles_MBW,
            w_TH,
            extension.context,
            extension.tables,
            page=PAGE,
            topk=self.index_topk,
            query_seqlens=extension.query_seqlens,
        )

    def _rotate(self, x_THA: Tensor, batch: AttnInput) -> Tensor:
        return rotate(x_THA, *batch.rope, interleaved=self.rope_interleaved)


def set_two_level(model: nn.Module, two_level: TwoLevel | None) -> None:
    """Let all indexers of a model search in two levels, or (None) exactly again.

    Raises:
        GodwitError: the model has no indexers.
    """
    indexers = [module for module in model.modules() if isinstance(module, Indexer)]
    if not indexers:
        raise GodwitError("this model has no indexers, so there is nothing to search in two levels")
    for indexer in indexers:
        indexer.two_level = two_level


def choose_rows(
    indexer: Indexer | None, x_TD: Tensor, c_q_TQ: Tensor, batch: AttnInput, index_TK: Tensor | None
) -> Tensor | None:
    """Rows of the cache that a layer attends to, given or its own choice; None is all that a token sees, gathered.

    A few tokens take all they see as rows, which copies nothing; for many, dense attention over a copy is cheaper.

    Raises:
        GodwitError: rows are needed, none are given, and there is no indexer.
    """
    assert batch.cache is not None, "called for batches with a cache"
    extension, layer = batch.cache
    if layer.tiles_MBW is not None:
        if indexer is None:
            raise GodwitError("this layer has no indexer weights and keeps index keys; the cache's plan must say S")
        chosen_TK = indexer.over_cache(x_TD, c_q_TQ, batch)
        index_TK = chosen_TK if index_TK is None else index_TK
    if batch.sparse:
        if index_TK is None:
            raise GodwitError("no rows were handed to this layer and it has none of its own; its plan must be S")
        return index_TK
    return extension.visible_TK if x_TD.shape[0] <= FEW else None


def choose(
    indexer: Indexer | None, x_TD: Tensor, c_q_TQ: Tensor, batch: AttnInput, index_TK: Tensor | None
) -> tuple[Tensor | None, IndexStates | None]:
    """Positions a layer attends to (None is dense attention), and its indexer's states if the batch is to teach it.

    The indexer learns from its own loss only: nothing flows back through its inputs.

    Raises:
        GodwitError: positions are needed, none are given, and there is no indexer.
    """
    x_TD, c_q_TQ = x_TD.detach(), c_q_TQ.detach()
    states = indexer.states(x_TD, c_q_TQ, batch) if batch.teach and indexer is not None else None
    if not batch.sparse or index_TK is not None:
        return index_TK if batch.sparse else None, states
    if indexer is None:
        raise GodwitError("this layer has no indexer weights and no positions were handed to it; its plan must be S")
    return indexer(x_TD, c_q_TQ, batch) if states is None else indexer.select(states, batch), states
