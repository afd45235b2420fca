"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434), with an optional lightning indexer over it.

    c_q = RMSNorm(q_a_proj x);  q = q_b_proj c_q -> H x (nope | rope)
    (c_kv | k_rope) = kv_a_proj_with_mqa x;  c_kv = RMSNorm(c_kv);  (k_nope | v) = kv_b_proj c_kv -> H x (nope | v)

k_rope is one head shared by all; the rotation is interleaved. The two latent norms use eps 1e-6 whatever the model's
`rms_norm_eps`, as Transformers does. Without gradients, attention over selected positions takes the absorbed form:
q_nope W_UK against the latents themselves and W_UV after the sum, so that keys and values are never expanded. With
gradients, and for dense attention, they are expanded: half the products a pair of tokens, and what is kept for the
backward pass is no more (a head and token: q, k, v, out of 1,024 numbers in GLM-5; absorbed q and out are 1,088).
Measured, compiled, forward + backward on one core, expanded against absorbed: 0.23 against 0.35 s at 2,048 tokens of
bench-nano, 1.3 against 1.7 s at 8,192; 9.2 against 10.3 s for 16 heads of GLM-5's at 4,096 tokens, 256 positions each.

Letters: T tokens, B queries of a block, D hidden, H heads, Q query latent, C key-value latent, N nope width
(rows of a cache's pool where it is a first dimension), R rope width, V value width, A = N + R, W = C + R, X = N + V,
K selected positions, L tokens of whole sequences.
"""

import torch
from torch import Tensor, nn

from godwit.nn.attention import AttnInput, AttnOutput, Lesson
from godwit.nn.cache import empty_pool
from godwit.nn.indexer import Indexer, choose, choose_rows
from godwit.nn.norm import RMSNorm
from godwit.ops.attention import attention
from godwit.ops.indexer_kl import Teacher
from godwit.ops.rotate import rotate
from godwit.ops.sparse_attention import sparse_attention
from godwit.ops.sparse_mla import sparse_mla

LATENT_NORM_EPS = 1e-6
# Queries of the absorbed form at a time: some MB of latent-wide queries and outputs.
QUERY_BLOCK = 4096


class MultiHeadLatentAttention(nn.Module):
    """Latent attention, dense or over selected positions.

    Args:
        q_lora_rank: width of the query latent; None projects queries straight from the hidden state.
        softmax_factor: what the scale (N + R)^-0.5 is multiplied with (YaRN).
        indexer: chooses positions under sparse attention; None for dense models and for layers that share.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_attention_heads: int,
        q_lora_rank: int | None,
        kv_lora_rank: int,
        qk_nope_head_dim: int,
        qk_rope_head_dim: int,
        v_head_dim: int,
        attention_bias: bool,
        softmax_factor: float = 1.0,
        indexer: Indexer | None = None,
    ):
        super().__init__()
        heads, qk_head_dim = num_attention_heads, qk_nope_head_dim + qk_rope_head_dim
        self.qk_head_dim, self.v_head_dim = qk_head_dim, v_head_dim
        self.nope, self.rope, self.kv_lora_rank = qk_nope_head_dim, qk_rope_head_dim, kv_lora_rank
        self.scale = qk_head_dim**-0.5 * softmax_factor
        if q_lora_rank is None:
            self.q_proj = nn.Linear(hidden_size, heads * qk_head_dim, bias=False)
        else:
            self.q_a_proj = nn.Linear(hidden_size, q_lora_rank, bias=attention_bias)
            self.q_a_layernorm = RMSNorm(q_lora_rank, eps=LATENT_NORM_EPS)
            self.q_b_proj = nn.Linear(q_lora_rank, heads * qk_head_dim, bias=False)
        self.q_lora_rank = q_lora_rank
        self.kv_a_proj_with_mqa = nn.Linear(hidden_size, kv_lora_rank + qk_rope_head_dim, bias=attention_bias)
        self.kv_a_layernorm = RMSNorm(kv_lora_rank, eps=LATENT_NORM_EPS)
        self.kv_b_proj = nn.Linear(kv_lora_rank, heads * (qk_nope_head_dim + v_head_dim), bias=False)
        self.o_proj = nn.Linear(heads * v_head_dim, hidden_size, bias=attention_bias)
        self.indexer = indexer

    def forward(self, x_TD: Tensor, batch: AttnInput, index_TK: Tensor | None = None) -> AttnOutput:
        """Attend over everything, or under `batch.sparse` over `index_TK` (given) or the indexer's choice."""
        c_q_TQ = x_TD if self.q_lora_rank is None else self.q_a_layernorm(self.q_a_proj(x_TD))
        q_THA = self._queries(c_q_TQ, batch)
        latents = self._latents(x_TD, batch)
        if batch.cache is not None:
            return self._over_cache(x_TD, c_q_TQ, q_THA, torch.cat(latents, dim=-1), batch, index_TK)
        index_TK, states = choose(self.indexer, x_TD, c_q_TQ, batch, index_TK)
        if index_TK is not None and not torch.is_grad_enabled() and not batch.teach:
            out_THV = self._absorbed(q_THA, torch.cat(latents, dim=-1), index_TK)
            return AttnOutput(self.o_proj(out_THV.flatten(1)), index_TK)
        k_THA, v_THV = self._keys_values(*latents)
        if index_TK is None:
            out_THV = batch.attend(q_THA, k_THA, v_THV, batch.context, scale=self.scale)
        else:
            out_THV = sparse_attention(q_THA, k_THA, v_THV, index_TK, batch.context, scale=self.scale).out_THE
        lesson = Lesson(Teacher(q_THA.detach(), k_THA.detach(), self.scale), states) if batch.teach else None
        return AttnOutput(self.o_proj(out_THV.flatten(1)), index_TK, lesson)

    def _queries(self, c_q_TQ: Tensor, batch: AttnInput) -> Tensor:
        project = self.q_proj if self.q_lora_rank is None else self.q_b_proj
        q_THA = project(c_q_TQ).unflatten(1, (-1, self.qk_head_dim))
        return rotate(q_THA, *batch.rope, start=self.nope, interleaved=True)

    def _latents(self, x_TD: Tensor, batch: AttnInput) -> tuple[Tensor, Tensor]:
        """Normed latents `(T, C)` and the rotated key all heads share `(T, R)`: what a cache would hold."""
        c_kv_TC, k_rope_TR = self.kv_a_proj_with_mqa(x_TD).split((self.kv_lora_rank, self.rope), dim=-1)
        return self.kv_a_layernorm(c_kv_TC), rotate(k_rope_TR.unsqueeze(1), *batch.rope, interleaved=True).squeeze(1)

    def _keys_values(self, c_kv_TC: Tensor, k_rope_TR: Tensor) -> tuple[Tensor, Tensor]:
        kv_THX = self.kv_b_proj(c_kv_TC).unflatten(1, (-1, self.nope + self.v_head_dim))
        k_nope_THN, v_THV = kv_THX.split((self.nope, self.v_head_dim), dim=-1)
        return torch.cat((k_nope_THN, k_rope_TR.unsqueeze(1).expand(-1, k_nope_THN.shape[1], -1)), dim=-1), v_THV

    def new_cache(self, num_rows: int) -> tuple[Tensor, None]:
        """An empty pool `(1, N, W)`: latent and rotated key of a token are one row, its key and its value."""
        return empty_pool(self.kv_b_proj.weight, 1, num_rows, self.kv_lora_rank + self.rope), None

    def _over_cache(
        self,
        x_TD: Tensor,
        c_q_TQ: Tensor,
        q_THA: Tensor,
        c_TW: Tensor,
        batch: AttnInput,
        index_TK: Tensor | None,
    ) -> AttnOutput:
        assert batch.cache is not None, "called for batches with a cache"
        extension, layer = batch.cache
        batch.cache.store(c_TW.unsqueeze(1), None)
        rows_TK = choose_rows(self.indexer, x_TD, c_q_TQ, batch, index_TK)
        if rows_TK is not None:
            out_THV = self._absorbed(q_THA, layer.k_GNA[0], rows_TK)
        else:
            c_LW = batch.cache.gathered(layer.k_GNA, q_THA.dtype).squeeze(1)
            k_LHA, v_LHV = self._keys_values(*c_LW.split((self.kv_lora_rank, self.rope), dim=-1))
            new = extension.query_seqlens
            out_THV = attention(q_THA, k_LHA, v_LHV, extension.context, scale=self.scale, query_seqlens=new)
        return AttnOutput(self.o_proj(out_THV.flatten(1)), rows_TK if batch.sparse else None)

    def _absorbed(self, q_THA: Tensor, c_NW: Tensor, index_TK: Tensor) -> Tensor:
        """Outputs `(T, H, V)` over selected positions; a block of queries at a time, since they are C wide here."""
        up_HXC = self.kv_b_proj.weight.unflatten(0, (-1, self.nope + self.v_head_dim))
        up_key_HNC, up_value_HVC = up_HXC.split((self.nope, self.v_head_dim), dim=1)
        outputs = []
        for q_BHA, index_BK in zip(q_THA.split(QUERY_BLOCK), index_TK.split(QUERY_BLOCK), strict=True):
            q_nope_BHN, q_rope_BHR = q_BHA.split((self.nope, self.rope), dim=-1)
            latent_BHC = torch.einsum("bhn,hnc->bhc", q_nope_BHN, up_key_HNC)
            q_BHW = torch.cat((latent_BHC, q_rope_BHR), dim=-1)
            out_BHC = sparse_mla(q_BHW, c_NW, index_BK, scale=self.scale, latent_width=self.kv_lora_rank).out_QHC
            outputs.append(torch.einsum("bhc,hvc->bhv", out_BHC, up_value_HVC))
        return torch.cat(outputs)
