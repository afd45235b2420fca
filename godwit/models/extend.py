"""Incremental inference: new tokens of some sequences through the layers, over the caches of those before them.

Prefill in chunks, decoding and mixtures of both are one call. What is computed is what a forward pass over the whole
sequences computes for these tokens: the same blocks, with keys, values and index keys read from the cache.

Letters: S sequences, T new tokens, D hidden, V vocabulary, K selected rows.
"""

from collections.abc import Sequence as Many
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from godwit.base.errors import GodwitError
from godwit.models.step import CompiledStep
from godwit.nn.attention import AttnInput
from godwit.nn.cache import Cache, Extension, LayerCache, LayerExtension, empty_tiles
from godwit.nn.gqa import GroupedQueryAttention
from godwit.nn.mla import MultiHeadLatentAttention
from godwit.nn.pages import PAGE, Sequence
from godwit.nn.share_plan import SharePlan
from godwit.ops.context import AttnContext

if TYPE_CHECKING:
    from godwit.models.decoder import Decoder


class Extended(NamedTuple):
    """Logits `(S, V)` of each sequence's last token, or `(T, V)` of all, and, if asked for, what layers chose.

    `indices`: by layer that chose positions itself, those positions in their sequence, int32 `(T, K)`, -1 behind; empty
    while no sequence is longer than `index_topk`. `hidden_TD`, if asked for: every new token's state after the final
    norm, what the prediction layer takes.
    """

    logits_SV: Tensor
    indices: dict[int, Tensor]
    hidden_TD: Tensor | None = None


def new_cache(model: "Decoder", plan: SharePlan | None, *, num_pages: int, mtp: bool = False) -> Cache:
    """An empty cache; the layers that are F in the plan keep index keys, and so does the prediction layer."""
    layers = [
        _new_layer(block, num_pages, full=plan is not None and plan.is_full(number))
        for number, block in enumerate(model.decoder_layers())
    ]
    prediction = None
    if mtp:
        if not model.config.num_nextn_predict_layers:
            raise GodwitError("this model has no prediction layer to draft with; set num_nextn_predict_layers to 1")
        block = model.model.layers[model.config.num_hidden_layers]
        prediction = _new_layer(block, num_pages, full=plan is not None)
        # A page that was shared may hold rows nobody computed; they are to be wrong guesses, not NaN.
        prediction.k_GNA.zero_()
        if prediction.v_GNE is not None:
            prediction.v_GNE.zero_()
    return Cache(layers, num_pages=num_pages, plan=plan, mtp=prediction)


def _new_layer(block: nn.Module, num_pages: int, *, full: bool) -> LayerCache:
    attention = block.self_attn
    assert isinstance(attention, MultiHeadLatentAttention | GroupedQueryAttention), type(attention)
    k_GNA, v_GNE = attention.new_cache(num_pages * PAGE)
    if not full:
        return LayerCache(k_GNA, v_GNE, None)
    assert attention.indexer is not None, "the plan was checked against the model's own"
    return LayerCache(k_GNA, v_GNE, empty_tiles(k_GNA, attention.indexer.head_dim))


def check_tokens(tokens_T: Tensor) -> None:
    """Refuse what is not a flat row of token ids."""
    if tokens_T.ndim != 1 or tokens_T.dtype not in (torch.int64, torch.int32):
        raise GodwitError(f"tokens must be a flat integer tensor (T,), got {tokens_T.dtype} {tuple(tokens_T.shape)}")


def lengths_of(tokens_T: Tensor, sequences: Many[Sequence], query_seqlens: Many[int] | None) -> tuple[int, ...]:
    """How many of the tokens belong to each sequence.

    Raises:
        GodwitError: they do not add up, a sequence is named twice, or it is not clear whose the tokens are.
    """
    check_tokens(tokens_T)
    if query_seqlens is None:
        if len(sequences) == 1:
            query_seqlens = (tokens_T.shape[0],)
        elif len(sequences) == tokens_T.shape[0]:
            query_seqlens = (1,) * len(sequences)
        else:
            raise GodwitError(
                f"{tokens_T.shape[0]} tokens for {len(sequences)} sequences: give query_seqlens, one count each"
            )
    lengths = tuple(query_seqlens)
    if len(lengths) != len(sequences) or sum(lengths) != tokens_T.shape[0] or min(lengths, default=0) < 1:
        raise GodwitError(
            f"query_seqlens {lengths[:8]} must give each of {len(sequences)} sequences 1 token or more, "
            f"{tokens_T.shape[0]} together"
        )
    if len({id(sequence) for sequence in sequences}) != len(sequences):
        raise GodwitError("a sequence stands twice in one call; give its tokens together, as one entry")
    return lengths


def step_of(model: "Decoder", cache: Cache) -> CompiledStep:
    """The compiled step of a model over its cache, prepared at first use.

    Raises:
        GodwitError: the cache is another model's.
    """
    if not isinstance(cache.step, CompiledStep):
        cache.step = CompiledStep(model, cache=cache)
    if cache.step.model is not model:
        raise GodwitError("this cache was made for another model; make one with new_cache() of this model")
    return cache.step


@torch.inference_mode()
def extend(
    model: "Decoder",
    tokens_T: Tensor,
    cache: Cache,
    sequences: Many[Sequence],
    lengths: tuple[int, ...],
    *,
    last: bool,
    indices: bool,
) -> Extended:
    """As `Decoder.extend`, but `indices` are rows of the pool; sequences have room, the caller sets their length.

    Raises:
        GodwitError: the cache is another model's, or a token outside the vocabulary (on a CPU).
    """
    step = step_of(model, cache)
    vocab_size = model.config.vocab_size
    if tokens_T.device.type == "cpu" and not 0 <= int(tokens_T.min()) <= int(tokens_T.max()) < vocab_size:
        raise GodwitError(f"tokens must lie in this model's vocabulary, 0 to {vocab_size - 1}")
    if tokens_T.shape[0] <= step.most:
        return Extended(*step(tokens_T, sequences, lengths, last=last, indices=indices))
    batch = Extension.of(sequences, lengths, tokens_T.device)
    context, rope = AttnContext(lengths, tokens_T.device), model.rope.tables(batch.position_T)
    topk = model.config.index_topk_or_none
    sparse = topk is not None and batch.context.max_seqlen > topk
    x_TD, rows_TK = model.model.embed_tokens(tokens_T), None
    chosen: dict[int, Tensor] = {}
    for number, (block, layer) in enumerate(zip(model.decoder_layers(), cache.layers, strict=True)):
        own = cache.plan is not None and cache.plan.is_full(number)
        attn_input = AttnInput(context, rope, sparse, cache=LayerExtension(batch, layer))
        output = block(x_TD, attn_input, None if own else rows_TK)
        x_TD, rows_TK = output.x_TD, output.index_TK
        if indices and own and rows_TK is not None:
            chosen[number] = rows_TK
    hidden_TD = states_SD = model.model.norm(x_TD)
    if last:
        states_SD = hidden_TD[torch.tensor(lengths, device=tokens_T.device).cumsum(0) - 1]
    return Extended(model.logits(states_SD), chosen, hidden_TD)
