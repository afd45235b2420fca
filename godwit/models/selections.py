"""One text through a model with indexers, kept to be looked at: which past tokens each layer attends to, and what of
its attention that leaves out.

    mass_l[t]       = sum over the positions that layer l used of softmax_s(q_l[t] . k_l[s]), heads averaged, s <= t
    common[a, b]    = mean over queries of |choice_a n choice_b| / k

Both are taken in the sparse model as it runs under the plan: queries and keys are those that its layers really have,
not those of a dense model. An S layer that has an indexer is asked what it would have chosen, and that is not used.

Letters: T tokens, N layers, K selected positions, B queries of a block, L positions, D hidden, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.models.decoder import Decoder
from godwit.nn.attention import AttnInput, IndexStates
from godwit.nn.share_plan import SharePlan
from godwit.ops.index_topk import index_topk
from godwit.ops.indexer_kl import Teacher, indexer_kl

QUERY_BLOCK = 256
HEAD_BLOCK = 1024  # tokens whose logits exist at one time


@dataclass(frozen=True, eq=False)
class Selections:
    """What `look` saw.

    Attributes:
        plan, topk: under which the text ran.
        choices: by layer, the positions (T, K) its own indexer chooses; layers without an indexer are missing.
        teachers: queries and keys of each layer's attention.
        mass_NT: see above; 1 where a query sees no more than `topk` positions.
        losses_T: of the token that follows, nats; one fewer than tokens.
        best_T: the likeliest next token.
    """

    plan: SharePlan
    topk: int
    choices: dict[int, Tensor]
    teachers: tuple[Teacher, ...]
    mass_NT: Tensor
    losses_T: Tensor
    best_T: Tensor

    @property
    def sources(self) -> tuple[int, ...]:
        """For each layer the F layer whose selection it attends to: itself or one before it."""
        return tuple(group[0] for group in self.plan.groups for _ in group)

    @property
    def choosing(self) -> Tensor:
        """Queries that have to choose: more than `topk` positions before them."""
        return torch.arange(self.topk, self.mass_NT.shape[1])

    def chosen(self, layer: int, position: int) -> list[int]:
        """Positions that the layer's own indexer chooses at a query, ascending."""
        row_K = self.choices[layer][position]
        return sorted(row_K[row_K >= 0].tolist())

    def attention(self, layer: int, position: int) -> Tensor:
        """The layer's attention at one query over everything before it and itself, heads averaged: `(L,)`, sum 1."""
        q_TNE, k_TGE, scale = self.teachers[layer]
        k_LGE = k_TGE[: position + 1]
        q_GHE = q_TNE[position].unflatten(0, (k_LGE.shape[1], -1))
        dots_GHL = torch.einsum("ghe,lge->ghl", q_GHE.float(), k_LGE.float()) * scale
        return dots_GHL.softmax(dim=-1).mean(dim=(0, 1))

    def common_NN(self) -> tuple[tuple[int, ...], Tensor]:
        """Layers with an indexer, and what each two of them have in common, mean over choosing queries."""
        layers = tuple(self.choices)
        counts_NN = common([self.choices[layer] for layer in layers], self.choosing)
        return layers, counts_NN / (self.topk * len(self.choosing))


@torch.inference_mode()
def look(
    model: Decoder, tokens_T: Tensor, *, plan: SharePlan | str | None = None, topk: int | None = None
) -> Selections:
    """Run one document.

    Args:
        model: a decoder with indexers, in eval mode; it is not changed.
        tokens_T: token ids, more of them than `topk`.
        plan: which layers choose and which reuse; None for the model's own.
        topk: positions to select; None for the model's `index_topk`. Others show the mechanism on shorter texts.

    Raises:
        GodwitError: no indexers, too short a text for anything to be chosen, or a plan that does not fit the model.
    """
    own_topk, own_plan = model.config.index_topk_or_none, model.config.plan
    if own_topk is None or own_plan is None:
        raise GodwitError(f"a {model.config.model_type} model has no indexers to look at; godwit convert gives it some")
    topk = own_topk if topk is None else topk
    if not 1 <= topk < len(tokens_T):
        raise GodwitError(
            f"the text has {len(tokens_T)} tokens and {topk} are selected, so there is nothing to choose; give a "
            f"longer text or a top-k from 1 to {max(len(tokens_T) - 1, 1)}"
        )
    share = model.plan_for(plan, None)
    assert share is not None, "the model has a plan of its own"
    tokens_T = tokens_T.to(model.lm_head_weight.device)
    context = model.context(tokens_T)
    batch = AttnInput(context, model.rope.tables(context.positions_T), sparse=True, teach=True)
    x_TD = model.model.embed_tokens(tokens_T)
    choices, teachers, mass = dict[int, Tensor](), list[Teacher](), list[Tensor]()
    states: IndexStates | None = None
    used_TK: Tensor | None = None
    for number, layer in enumerate(model.decoder_layers()):
        own = share.is_full(number)
        output = layer(x_TD, batch, None if own else used_TK)
        assert output.lesson is not None, "the batch teaches"
        if output.lesson.states is not None:
            choices[number] = index_topk(*output.lesson.states, context, topk=topk)
        if own:
            states, used_TK = output.lesson.states, choices[number]
            if topk != own_topk:  # the layer chose by its own number: again, with ours handed to it
                output = layer(x_TD, batch, used_TK)
        assert states is not None and output.lesson is not None, "a plan begins with F"
        teachers.append(output.lesson.teacher)
        measured = indexer_kl([output.lesson.teacher], *states, context, measure_TK=used_TK)
        assert measured.mass_T is not None, "it was asked for"
        mass.append(measured.mass_T.float().cpu())
        x_TD = output.x_TD
    losses_T, best_T = _next_tokens(model.model.norm(x_TD), model.lm_head_weight, tokens_T)
    return Selections(share, topk, choices, tuple(teachers), torch.stack(mass), losses_T, best_T)


def common(choices: Sequence[Tensor], queries: Tensor) -> Tensor:
    """Sums over queries of how many positions each two selections `(T, K)` have in common: float64 `(N, N)`.

    Every entry of the rows must be a position: queries with fewer than K positions before them are left out.
    """
    total_NN = torch.zeros(len(choices), len(choices), dtype=torch.float64)
    device, num_positions = choices[0].device, choices[0].shape[0]
    for block_B in queries.split(QUERY_BLOCK):
        # One bit a position: products of these masks count common positions, and all pairs are one matrix product.
        index_BNK = torch.stack([index_TK[block_B.to(index_TK.device)].to(device) for index_TK in choices], 1)
        mask_BNL = torch.zeros(*index_BNK.shape[:2], num_positions, device=device)
        mask_BNL.scatter_(2, index_BNK.long(), 1.0)
        total_NN += torch.einsum("bnl,bml->nm", mask_BNL, mask_BNL).cpu().double()
    return total_NN


def _next_tokens(hidden_TD: Tensor, weight_VD: Tensor, tokens_T: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of the tokens that follow, and the likeliest ones, on the CPU."""
    losses, best = [], []
    blocks = zip(hidden_TD[:-1].split(HEAD_BLOCK), tokens_T[1:].split(HEAD_BLOCK), strict=True)
    for hidden_BD, next_B in blocks:
        logits_BV = F.linear(hidden_BD, weight_VD).float()
        losses.append(F.cross_entropy(logits_BV, next_B, reduction="none").cpu())
        best.append(logits_BV.argmax(dim=-1).cpu())
    return torch.cat(losses), torch.cat(best)
