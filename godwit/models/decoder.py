"""The one decoder, for training and serving: tokens laid flat, borders passed explicitly.

What differs between families is in their configs (`godwit.models.families`); what a layer computes is in `godwit.nn`.
State-dict names are those of Transformers, so that files go both ways.

Letters: T tokens, D hidden, V vocabulary, E experts, K selected positions, L layers with experts.
"""

from collections.abc import Mapping
from collections.abc import Sequence as Many
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from godwit.base.errors import GodwitError
from godwit.models.config import DecoderConfig
from godwit.models.extend import Extended, check_tokens, extend, lengths_of, new_cache
from godwit.models.teaching import IndexLoss, IndexLosses, Teaching
from godwit.nn.attention import Attend, AttnInput
from godwit.nn.cache import Cache, Extension
from godwit.nn.layer import DecoderLayer, LayerOutput
from godwit.nn.moe import Experts, Gate, MixtureOfExperts, RouterStats
from godwit.nn.norm import RMSNorm
from godwit.nn.pages import Sequence
from godwit.nn.share_plan import SharePlan
from godwit.ops.context import AttnContext


class Output(NamedTuple):
    """Logits `(T, V)` and, for every layer that chose positions itself, those positions, int32 `(T, K)`.

    `indices` is empty when attention was dense: for dense models, and while no document is longer than `index_topk`.
    """

    logits_TV: Tensor
    indices: dict[int, Tensor]


class Features(NamedTuple):
    """Hidden states ready for the output head, and the routers' statistics.

    Attributes:
        hidden_TD: after the final norm.
        mtp_hidden: per depth k, ready to predict the token k + 2 ahead.
        load_LE: tokens routed to each expert, float32, layers in order, the prediction layer's depths summed, last.
        balance_loss: mean over layers (each depth of the prediction layer is one), not weighted.
        indices: see `Output`; empty unless asked for.
        index_losses: what indexers learn from, if asked for.
    """

    hidden_TD: Tensor
    mtp_hidden: tuple[Tensor, ...]
    load_LE: Tensor
    balance_loss: Tensor
    indices: dict[int, Tensor]
    index_losses: IndexLosses | None = None


class Backbone(nn.Module):
    """Embedding, layers (the prediction layer last) and final norm."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([config.layer(layer) for layer in range(config.num_layers_with_mtp)])
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)


class Decoder(nn.Module):
    """A causal language model of one of the families. Weights are not initialised: see `godwit.models.init.build`."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        self.rope = config.rope
        self.model = Backbone(config)
        self.lm_head = None
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @property
    def lm_head_weight(self) -> Tensor:
        """Output matrix `(V, D)`; the embedding when they are tied."""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def logits(self, hidden_TD: Tensor) -> Tensor:
        """Logits `(..., V)` of states behind the last norm, `(..., D)`."""
        return F.linear(hidden_TD, self.lm_head_weight)

    def forward(
        self,
        tokens_T: Tensor,
        cu_seqlens: Tensor | None = None,
        plan: SharePlan | str | None = None,
        indices: Mapping[int, Tensor] | None = None,
        attend: Attend | None = None,
    ) -> Output:
        """Logits of every token.

        Args:
            tokens_T: token ids, int64 `(T,)`.
            cu_seqlens: borders of the documents, `(S + 1,)`; None for one document.
            plan: which layers choose positions and which reuse them; None for the config's.
            indices: positions by layer that replace the layers' own choice, flat, -1 for empty.
            attend: replaces dense attention in every layer, see `godwit.ops.sample_attention`.
        """
        context = self.context(tokens_T, cu_seqlens)
        features = self.features(tokens_T, context, plan=plan, indices=indices, attend=attend, keep_indices=True)
        return Output(self.logits(features.hidden_TD), features.indices)

    def new_cache(self, *, num_pages: int, plan: SharePlan | str | None = None, mtp: bool = False) -> Cache:
        """Room for `num_pages` x 256 tokens of any number of sequences, see `extend`.

        Args:
            num_pages: pages of each layer; `godwit.nn.pages.pages_for` counts those of a sequence.
            plan: which layers choose positions (they keep index keys) and which reuse them; None for the config's.
            mtp: room for the prediction layer too, see `godwit.models.draft`.
        """
        return new_cache(self, self.plan_for(plan, None), num_pages=num_pages, mtp=mtp)

    def extend(
        self,
        tokens_T: Tensor,
        cache: Cache,
        sequences: Sequence | Many[Sequence],
        query_seqlens: Many[int] | None = None,
        *,
        last: bool = True,
        indices: bool = False,
        hidden: bool = False,
    ) -> Extended:
        """Append tokens to sequences of a cache and give the logits that follow: prefill, chunks and decoding alike.

        Args:
            tokens_T: new tokens, those of the first sequence first.
            cache: made by `new_cache` of this model, for its present weights.
            sequences: which they belong to, from `cache.open()`.
            query_seqlens: how many belong to each; None: all to the only one, or one to each.
            last: logits of each sequence's last token only; False: of every new token.
            indices: also give the positions that layers chose.
            hidden: also give the states after the final norm.

        Raises:
            GodwitError: tokens that do not fit the sequences, or too few free pages; the cache is as it was before.
        """
        group = [sequences] if isinstance(sequences, Sequence) else list(sequences)
        lengths = lengths_of(tokens_T, group, query_seqlens)
        cache.pages.reserve(group, list(lengths))
        output = extend(self, tokens_T, cache, group, lengths, last=last, indices=indices)
        chosen: dict[int, Tensor] = {}
        if indices:
            extension = Extension.of(group, lengths, tokens_T.device)
            chosen = {number: extension.positions(rows_TK) for number, rows_TK in output.indices.items()}
        for sequence, new in zip(group, lengths, strict=True):
            sequence.length += new
        return Extended(output.logits_SV, chosen, output.hidden_TD if hidden else None)

    def context(self, tokens_T: Tensor, cu_seqlens: Tensor | None = None) -> AttnContext:
        """Borders of a flat batch, checked against its tokens."""
        check_tokens(tokens_T)
        if cu_seqlens is None:
            return AttnContext.single(tokens_T.shape[0], tokens_T.device)
        context = AttnContext.from_cu_seqlens(cu_seqlens, tokens_T.device)
        if context.num_tokens != tokens_T.shape[0]:
            raise GodwitError(f"cu_seqlens ends at {context.num_tokens} and there are {tokens_T.shape[0]} tokens")
        return context

    def features(
        self,
        tokens_T: Tensor,
        context: AttnContext,
        *,
        plan: SharePlan | str | None = None,
        indices: Mapping[int, Tensor] | None = None,
        dense: bool = False,
        num_mtp_depths: int = 0,
        recompute: bool = False,
        attend: Attend | None = None,
        teach: bool = False,
        index_loss: IndexLoss = "multi",
        measure: bool = False,
        keep_indices: bool = False,
    ) -> Features:
        """Hidden states without the output head, as training wants them.

        Args:
            dense: attend to everything although the model has indexers (dense stages of training).
            num_mtp_depths: how many tokens further ahead to predict; all depths use the one prediction layer.
            recompute: keep only each layer's input for the backward pass (activation checkpointing).
            attend: replaces dense attention in every layer; None computes it exactly.
            teach: compute the indexers' losses, over what the layers attend to.
            index_loss: which layers teach an indexer, see `godwit.models.teaching`.
            measure: with them, the attention mass on what indexers would select (dense passes).
            keep_indices: give what layers chose; without, a layer's choice is freed once no later layer reuses it.
        """
        batch = self._attn_input(context, dense=dense, attend=attend, teach=teach)
        share = self.plan_for(plan, indices)
        given = dict(indices or {})
        teaching = self._teaching(batch, form=index_loss, measure=measure) if teach else None
        x_TD = self.model.embed_tokens(tokens_T)
        chosen: dict[int, Tensor] = {}
        routers: list[RouterStats] = []
        index_TK = None
        for number, layer in enumerate(self.decoder_layers()):
            own = share is None or share.is_full(number)
            handed = given.get(number, None if own else index_TK) if batch.sparse else None
            output = _run(layer, recompute, x_TD, batch, handed)
            x_TD, index_TK = output.x_TD, output.index_TK
            if keep_indices and own and index_TK is not None:
                chosen[number] = index_TK
            if output.router is not None:
                routers.append(output.router)
            if teaching is not None and share is not None:
                teaching.add(output, own=own, num_served=share.num_served(number))
        hidden_TD = self.model.norm(x_TD)
        ahead, ahead_routers = self._predict_ahead(tokens_T, hidden_TD, batch, num_mtp_depths, recompute, teaching)
        load_LE = self._loads(routers, ahead_routers)
        losses = [router.balance_loss for router in routers + ahead_routers]
        balance_loss = torch.stack(losses).mean() if losses else hidden_TD.new_zeros(())
        index_losses = None if teaching is None else teaching.losses()
        return Features(hidden_TD, ahead, load_LE, balance_loss, chosen, index_losses)

    def _predict_ahead(
        self,
        tokens_T: Tensor,
        hidden_TD: Tensor,
        batch: AttnInput,
        num_depths: int,
        recompute: bool,
        teaching: Teaching | None,
    ) -> tuple[tuple[Tensor, ...], list[RouterStats]]:
        """Hidden states of each depth. Depth 0 runs the layer's own indexer, deeper ones reuse its choice (GLM-5.2)."""
        if num_depths and not self.config.num_nextn_predict_layers:
            raise GodwitError("the model has no prediction layer; set num_nextn_predict_layers to 1 or mtp depths to 0")
        ahead: list[Tensor] = []
        routers: list[RouterStats] = []
        index_TK = None
        for depth in range(num_depths):
            # Places whose next token lies past the document's end see its last token; no label is ever asked of them.
            embedded_TD = self.model.embed_tokens(tokens_T[batch.context.ahead_T(depth + 1)])
            layer = self.model.layers[self.config.num_hidden_layers]
            output = _run(layer, recompute, hidden_TD, batch, index_TK, embedded_TD=embedded_TD)
            hidden_TD, index_TK = output.x_TD, output.index_TK
            ahead.append(hidden_TD)
            assert output.router is not None, "the prediction layer has experts"
            routers.append(output.router)
            if teaching is not None:
                teaching.add(output, own=depth == 0, num_served=num_depths)
        return tuple(ahead), routers

    def _loads(self, routers: list[RouterStats], ahead: list[RouterStats]) -> Tensor:
        rows = [router.load_E for router in routers]
        if self.config.num_nextn_predict_layers:
            # A row even when no depth ran, so that rows always match `expert_gates()`.
            device = self.model.norm.weight.device
            idle = torch.zeros(self.config.routed_experts[0], dtype=torch.float32, device=device)
            rows.append(sum((router.load_E for router in ahead), idle))
        return torch.stack(rows) if rows else torch.zeros(0, self.config.routed_experts[0])

    def _teaching(self, batch: AttnInput, *, form: IndexLoss, measure: bool) -> Teaching:
        topk = self.config.index_topk_or_none
        if topk is None:
            raise GodwitError(
                f"a {self.config.model_type} model has no indexers to train; godwit convert gives it some"
            )
        return Teaching(batch, index_topk=topk, form=form, measure=measure)

    def _attn_input(
        self, context: AttnContext, *, dense: bool, attend: Attend | None = None, teach: bool = False
    ) -> AttnInput:
        topk = self.config.index_topk_or_none
        # Up to index_topk tokens the selection is everything: dense attention is the same, and cheaper.
        sparse = topk is not None and not dense and context.max_seqlen > topk
        rope = self.rope.tables(context.positions_T)
        if attend is None:
            return AttnInput(context, rope, sparse, teach=teach)
        if sparse:
            raise GodwitError(
                f"a document is longer than index_topk {topk}, so the indexers choose what is attended to and there is "
                "no dense attention to replace; give dense=True to features()"
            )
        return AttnInput(context, rope, sparse, attend=attend, teach=teach)

    def plan_for(self, plan: SharePlan | str | None, indices: Mapping[int, Tensor] | None) -> SharePlan | None:
        """The plan to follow; a layer without indexer weights cannot be F unless its positions are given."""
        own = self.config.plan
        if own is None:
            if plan is not None or indices:
                raise GodwitError(f"a {self.config.model_type} model has no indexers, so there is nothing to share")
            return None
        if plan is None:
            return own
        asked = SharePlan.parse(plan, self.config.num_hidden_layers)
        missing = [
            n for n in range(len(own.pattern)) if asked.is_full(n) and not own.is_full(n) and n not in (indices or {})
        ]
        if missing:
            raise GodwitError(
                f"layers {missing} have no indexer weights and cannot be F; the model's own plan is {own}"
            )
        return asked

    def set_rope_theta(self, theta: float) -> None:
        """Change the rotary base, as the context stages of mid-training do. The config is to be changed with it."""
        self.rope = type(self.rope)(width=self.rope.width, theta=theta, scaling=self.rope.scaling)

    # What training needs to find in it.

    def decoder_layers(self) -> list[nn.Module]:
        """Layers in order, without the prediction layer."""
        return list(self.model.layers)[: self.config.num_hidden_layers]

    def blocks(self) -> list[nn.Module]:
        """Layers in order, the prediction layer last: the units of sharding."""
        return list(self.model.layers)

    def _mixtures(self) -> list[MixtureOfExperts]:
        layers = [layer for layer in self.model.layers if isinstance(layer, DecoderLayer)]
        return [layer.mlp for layer in layers if isinstance(layer.mlp, MixtureOfExperts)]

    def expert_gates(self) -> list[Gate]:
        """Routers, in the order of `Features.load_LE`."""
        return [mixture.gate for mixture in self._mixtures()]

    def experts(self) -> list[Experts]:
        """Fused expert weights, in the same order."""
        return [mixture.experts for mixture in self._mixtures()]

    def matrix_splits(self) -> dict[str, tuple[int, ...]]:
        """Parameter name -> sizes of the row blocks that are matrices of their own to the optimizer.

        Heads of the latent up-projections (Muon Split), and the gate and up halves of fused experts.
        """
        splits: dict[str, tuple[int, ...]] = {}
        for number, layer in enumerate(self.model.layers):
            splits |= self.config.matrix_splits(f"model.layers.{number}.self_attn")
            if isinstance(layer, DecoderLayer) and isinstance(layer.mlp, MixtureOfExperts):
                width = layer.mlp.experts.down_proj.shape[2]
                splits[f"model.layers.{number}.mlp.experts.gate_up_proj"] = (width, width)
        return splits


def _run(layer: nn.Module, recompute: bool, *args: object, **kwargs: object) -> LayerOutput:
    if recompute and torch.is_grad_enabled():
        return checkpoint(partial(layer, **kwargs), *args, use_reentrant=False)
    return layer(*args, **kwargs)
