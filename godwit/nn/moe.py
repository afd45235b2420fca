"""Mixture of experts as in GLM-4.5/5 and DeepSeek-V3: sigmoid router, bias-corrected choice, shared expert.

    s = sigmoid(W x) in float32;  choice = s + b;  ids = top-k of choice (within the best `topk_group` groups)
    g = s[ids] / sum(s[ids]) * routed_scaling_factor;  y = sum_k g_k E_k(x) + Shared(x)

b steers the choice only, never the weights, and learns without a loss (arXiv 2408.15664):
    b_i += u sign(mean load - load_i)

The sequence-wise balance loss is DeepSeek-V3's (arXiv 2412.19437, eq. 17-20), here averaged over tokens, so that
packed documents of unequal length weigh by their length.

Letters: T tokens, D hidden, E experts, K experts per token, N = T K routed rows, S documents.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from godwit.dist.expert_parallel import combine, dispatch
from godwit.nn.mlp import GatedMLP
from godwit.ops.context import AttnContext
from godwit.ops.experts import experts


class Routing(NamedTuple):
    """Gate weights float32 `(T, K)`, chosen experts int64 `(T, K)`, unbiased scores float32 `(T, E)`."""

    weight_TK: Tensor
    expert_TK: Tensor
    score_TE: Tensor


class RouterStats(NamedTuple):
    """Tokens sent to each expert, float32 `(E,)`, and the balance loss, a scalar (not yet weighted)."""

    load_E: Tensor
    balance_loss: Tensor


class Gate(nn.Module):
    """The router. `e_score_correction_bias` is a float32 buffer that no gradient touches."""

    def __init__(
        self,
        *,
        hidden_size: int,
        n_routed_experts: int,
        num_experts_per_tok: int,
        n_group: int,
        topk_group: int,
        norm_topk_prob: bool,
        routed_scaling_factor: float,
    ):
        super().__init__()
        self.num_experts_per_tok = num_experts_per_tok
        self.n_group, self.topk_group = n_group, topk_group
        self.norm_topk_prob, self.routed_scaling_factor = norm_topk_prob, routed_scaling_factor
        self.weight = nn.Parameter(torch.empty(n_routed_experts, hidden_size))
        self.e_score_correction_bias: Tensor
        self.register_buffer("e_score_correction_bias", torch.zeros(n_routed_experts, dtype=torch.float32))

    def forward(self, x_TD: Tensor) -> Routing:
        """Choose experts for every token; always in float32 (autocast off), for the choice flips on rounding."""
        with torch.autocast(x_TD.device.type, enabled=False):
            score_TE = F.linear(x_TD.float(), self.weight.float()).sigmoid()
        choice_TE = score_TE.detach() + self.e_score_correction_bias
        if self.n_group > 1:
            choice_TE = self._within_best_groups(choice_TE)
        expert_TK = choice_TE.topk(self.num_experts_per_tok, dim=-1).indices
        weight_TK = score_TE.gather(1, expert_TK)
        if self.norm_topk_prob:
            weight_TK = weight_TK / (weight_TK.sum(dim=-1, keepdim=True) + 1e-20)
        return Routing(weight_TK * self.routed_scaling_factor, expert_TK, score_TE)

    def _within_best_groups(self, choice_TE: Tensor) -> Tensor:
        """Experts outside the best groups are out; a group's score is the sum of its two best choices."""
        grouped_TGM = choice_TE.unflatten(1, (self.n_group, -1))
        group_score_TG = grouped_TGM.topk(2, dim=-1).values.sum(dim=-1)
        best_TG = group_score_TG.topk(self.topk_group, dim=-1).indices
        outside_TG = torch.ones_like(group_score_TG, dtype=torch.bool).scatter_(1, best_TG, False)
        return grouped_TGM.masked_fill(outside_TG.unsqueeze(-1), float("-inf")).flatten(1)


class Experts(nn.Module):
    """All routed experts' weights, fused; under expert parallelism this rank's consecutive share of them."""

    def __init__(self, *, hidden_size: int, moe_intermediate_size: int, n_routed_experts: int):
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.empty(n_routed_experts, 2 * moe_intermediate_size, hidden_size))
        self.down_proj = nn.Parameter(torch.empty(n_routed_experts, hidden_size, moe_intermediate_size))
        self.ep_group: ProcessGroup | None = None

    def forward(self, x_ND: Tensor, count_E: Tensor) -> Tensor:
        """Rows sorted by expert, `count_E` rows for each (all experts, not just the local ones)."""
        if self.ep_group is None:
            return experts(x_ND, self.gate_up_proj, self.down_proj, count_E)
        sent = dispatch(x_ND, count_E, self.ep_group)
        y_MD = experts(sent.x_MD, self.gate_up_proj, self.down_proj, sent.count_L)
        return combine(y_MD, sent.plan)


class MixtureOfExperts(nn.Module):
    """Router, routed experts and the shared expert (neither gated nor scaled)."""

    def __init__(self, *, gate: Gate, experts: Experts, shared_experts: GatedMLP | None):
        super().__init__()
        self.gate = gate
        self.experts = experts
        self.shared_experts = shared_experts

    def forward(self, x_TD: Tensor, context: AttnContext) -> tuple[Tensor, RouterStats]:
        """`(T, D)` and what the balancing needs to know."""
        routing = self.gate(x_TD)
        num_experts, num_chosen = routing.score_TE.shape[1], routing.expert_TK.shape[1]
        expert_N = routing.expert_TK.flatten()
        order_N = expert_N.argsort(stable=True)
        count_E = torch.bincount(expert_N, minlength=num_experts)
        y_ND = self.experts(x_TD.index_select(0, order_N // num_chosen), count_E)
        # The inverse permutation finds each token's K rows; they are weighed and summed as they are read.
        back_N = torch.empty_like(order_N).scatter_(0, order_N, torch.arange(order_N.numel(), device=order_N.device))
        weight_TK, back_TK = routing.weight_TK.to(y_ND.dtype), back_N.unflatten(0, (-1, num_chosen))
        out_TD = F.embedding_bag(back_TK, y_ND, per_sample_weights=weight_TK, mode="sum")
        if self.shared_experts is not None:
            out_TD = out_TD + self.shared_experts(x_TD)
        stats = RouterStats(count_E.float(), sequence_balance_loss(routing, context))
        return out_TD, stats


def sequence_balance_loss(routing: Routing, context: AttnContext) -> Tensor:
    """sum_i f_i P_i per document, averaged over documents by their length.

    f_i = E / (K T_s) * (times expert i was chosen), P_i = mean over the document of s_i / sum_j s_j.
    1 when perfectly balanced, up to E / K when all tokens choose the same experts.
    """
    num_tokens, num_experts = routing.score_TE.shape
    if not torch.is_grad_enabled() or num_tokens == 0:
        return routing.score_TE.new_zeros(())
    num_chosen, num_docs = routing.expert_TK.shape[1], len(context.seqlens)
    share_TE = routing.score_TE / routing.score_TE.sum(dim=-1, keepdim=True)
    share_SE = share_TE.new_zeros(num_docs, num_experts).index_add(0, context.doc_ids_T, share_TE)
    cell_N = (context.doc_ids_T.unsqueeze(1) * num_experts + routing.expert_TK).flatten()
    chosen_SE = torch.bincount(cell_N, minlength=num_docs * num_experts).unflatten(0, (num_docs, num_experts))
    length_S1 = torch.tensor(context.seqlens, device=share_TE.device).clamp(min=1).unsqueeze(1)
    # T_s * f * P, with the T_s of the average over tokens cancelling one of the two divisions.
    return (chosen_SE * share_SE / length_S1).sum() * num_experts / (num_chosen * num_tokens)


@torch.no_grad()
def update_expert_bias(gate: Gate, load_E: Tensor, rate: float) -> None:
    """Loss-free balancing: raise the bias of under-used experts by `rate`, lower that of over-used ones.

    `load_E` is the number of tokens each expert got over the whole (global) batch of the step.
    """
    gate.e_score_correction_bias.add_(torch.sign(load_E.mean() - load_E), alpha=rate)
