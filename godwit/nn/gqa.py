"""Grouped-query attention: optional biases, per-head QK-norm, rotation of the first part of each head, and an indexer.

Sources: GLM-4.5 report (arXiv 2508.06471) section 2.1; `glm4_moe`, `llama`, `qwen3` in Transformers. QK-norm comes
before the rotation. The lightning indexer over it is Godwit's: all heads of a layer look at one set of positions, and
index queries are made from the layer's input, since there is no query latent.

Letters: T tokens, D hidden, H query heads, G key-value heads, A head width, R rotated width, K selected positions,
L tokens of whole sequences, N rows of a cache's pool.
"""

from torch import Tensor, nn

from godwit.nn.attention import AttnInput, AttnOutput, Lesson
from godwit.nn.cache import empty_pool
from godwit.nn.indexer import Indexer, choose, choose_rows
from godwit.nn.norm import RMSNorm
from godwit.ops.attention import attention
from godwit.ops.indexer_kl import Teacher
from godwit.ops.rotate import rotate
from godwit.ops.sparse_attention import sparse_attention, sparse_attention_rows


class GroupedQueryAttention(nn.Module):
    """Causal grouped-query attention with partial rotary embedding, dense or over selected positions.

    Args:
        attention_bias: biases of the query, key and value projections.
        output_bias: bias of the output projection.
        indexer: chooses positions under sparse attention; None for dense models and for layers that share.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_attention_heads: int,
        num_key_value_heads: int,
        head_dim: int,
        attention_bias: bool,
        use_qk_norm: bool,
        rms_norm_eps: float,
        output_bias: bool = False,
        indexer: Indexer | None = None,
    ):
        super().__init__()
        self.head_dim = head_dim
        self.scale = head_dim**-0.5
        self.q_proj = nn.Linear(hidden_size, num_attention_heads * head_dim, bias=attention_bias)
        self.k_proj = nn.Linear(hidden_size, num_key_value_heads * head_dim, bias=attention_bias)
        self.v_proj = nn.Linear(hidden_size, num_key_value_heads * head_dim, bias=attention_bias)
        self.o_proj = nn.Linear(num_attention_heads * head_dim, hidden_size, bias=output_bias)
        self.q_norm = RMSNorm(head_dim, eps=rms_norm_eps) if use_qk_norm else None
        self.k_norm = RMSNorm(head_dim, eps=rms_norm_eps) if use_qk_norm else None
        self.indexer = indexer

    def forward(self, x_TD: Tensor, batch: AttnInput, index_TK: Tensor | None = None) -> AttnOutput:
        """Attend over everything, or under `batch.sparse` over `index_TK` (given) or the indexer's choice."""
        q_THA = self.q_proj(x_TD).unflatten(1, (-1, self.head_dim))
        k_TGA = self.k_proj(x_TD).unflatten(1, (-1, self.head_dim))
        v_TGA = self.v_proj(x_TD).unflatten(1, (-1, self.head_dim))
        if self.q_norm is not None and self.k_norm is not None:
            q_THA, k_TGA = self.q_norm(q_THA), self.k_norm(k_TGA)
        q_THA, k_TGA = self._rotate(q_THA, batch), self._rotate(k_TGA, batch)
        if batch.cache is not None:
            return self._over_cache(x_TD, q_THA, k_TGA, v_TGA, batch, index_TK)
        index_TK, states = choose(self.indexer, x_TD, x_TD, batch, index_TK)
        if index_TK is None:
            out_THA = batch.attend(q_THA, k_TGA, v_TGA, batch.context, scale=self.scale)
        else:
            out_THA = sparse_attention(q_THA, k_TGA, v_TGA, index_TK, batch.context, scale=self.scale).out_THE
        lesson = Lesson(Teacher(q_THA.detach(), k_TGA.detach(), self.scale), states) if batch.teach else None
        return AttnOutput(self.o_proj(out_THA.flatten(1)), index_TK, lesson)

    def new_cache(self, num_rows: int) -> tuple[Tensor, Tensor]:
        """Empty pools of rotated keys and of values, `(G, N, A)` each."""
        groups = self.k_proj.out_features // self.head_dim
        weight = self.k_proj.weight
        k_GNA, v_GNA = (empty_pool(weight, groups, num_rows, self.head_dim) for _ in range(2))
        return k_GNA, v_GNA

    def _over_cache(
        self,
        x_TD: Tensor,
        q_THA: Tensor,
        k_TGA: Tensor,
        v_TGA: Tensor,
        batch: AttnInput,
        index_TK: Tensor | None,
    ) -> AttnOutput:
        assert batch.cache is not None, "called for batches with a cache"
        extension, layer = batch.cache
        batch.cache.store(k_TGA, v_TGA)
        assert layer.v_GNE is not None, "made by new_cache"
        rows_TK = choose_rows(self.indexer, x_TD, x_TD, batch, index_TK)
        if rows_TK is not None:
            k_NGA, v_NGA = layer.k_GNA.transpose(0, 1), layer.v_GNE.transpose(0, 1)
            out_THA = sparse_attention_rows(q_THA, k_NGA, v_NGA, rows_TK, scale=self.scale)
        else:
            k_LGA, v_LGA = (batch.cache.gathered(pool, q_THA.dtype) for pool in (layer.k_GNA, layer.v_GNE))
            new = extension.query_seqlens
            out_THA = attention(q_THA, k_LGA, v_LGA, extension.context, scale=self.scale, query_seqlens=new)
        return AttnOutput(self.o_proj(out_THA.flatten(1)), rows_TK if batch.sparse else None)

    def _rotate(self, x_THA: Tensor, batch: AttnInput) -> Tensor:
        return rotate(x_THA, *batch.rope, interleaved=False)
