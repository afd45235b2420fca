"""What the compiled step takes of a layer: the blocks' own parameters as arrays, and their few settings.

Arrays that a layer lacks (biases, indexer, routed or shared experts) have no rows.

Letters: D hidden, Q query latent, C key-value latent, W = C + R with R rotated, H heads, A = N + R query width of a
head, X = N + V, I index heads of width B, E experts, J expert width, F width of the shared expert or the gated MLP,
T tokens, S sequences, P pages of the longest. Grouped-query attention: H heads on G key-value heads of width A.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from godwit.nn.gqa import GroupedQueryAttention
from godwit.nn.indexer import Indexer
from godwit.nn.layer import DecoderLayer, PredictionLayer
from godwit.nn.mla import MultiHeadLatentAttention
from godwit.nn.mlp import GatedMLP
from godwit.nn.moe import MixtureOfExperts


class Latent(NamedTuple):
    """Norms and projections of latent attention; `kv_b` is `(H, X, C)`."""

    norm: np.ndarray
    q_a: np.ndarray
    q_a_bias: np.ndarray
    q_a_norm: np.ndarray
    q_b: np.ndarray
    kv_a: np.ndarray
    kv_a_bias: np.ndarray
    kv_a_norm: np.ndarray
    kv_b: np.ndarray
    o: np.ndarray
    o_bias: np.ndarray
    eps: np.float32
    scale: np.float32


class Grouped(NamedTuple):
    """Norms and projections of grouped-query attention; the heads' norms have no entries where there are none."""

    norm: np.ndarray
    q: np.ndarray
    q_bias: np.ndarray
    q_norm: np.ndarray
    k: np.ndarray
    k_bias: np.ndarray
    k_norm: np.ndarray
    v: np.ndarray
    v_bias: np.ndarray
    o: np.ndarray
    o_bias: np.ndarray
    eps: np.float32
    head_eps: np.float32
    scale: np.float32


class Index(NamedTuple):
    """The indexer: `wk` has no rows where the layer shares."""

    wq_b: np.ndarray
    wk: np.ndarray
    k_weight: np.ndarray
    k_bias: np.ndarray
    weights: np.ndarray
    scale: np.float32
    interleaved: bool


class Feed(NamedTuple):
    """Experts (`router` has no rows without) and the shared expert or the dense layer's MLP."""

    norm: np.ndarray
    router: np.ndarray
    bias: np.ndarray
    gate_up: np.ndarray
    down: np.ndarray
    shared_gate: np.ndarray
    shared_up: np.ndarray
    shared_down: np.ndarray
    eps: np.float32
    factor: np.float32
    num_chosen: int
    num_groups: int
    kept_groups: int
    normalised: bool


class Prediction(NamedTuple):
    """Norms of embeddings, states and the output, and what joins the first two; the norms have one `eps`."""

    enorm: np.ndarray
    hnorm: np.ndarray
    eh: np.ndarray
    norm: np.ndarray
    eps: np.float32


class Place(NamedTuple):
    """The tokens: angles `(T, R / 2)`, rows `(T,)`, pages `(S, P)`, sequence and number of tokens seen `(T,)`."""

    cos: np.ndarray
    sin: np.ndarray
    row: np.ndarray
    table: np.ndarray
    document: np.ndarray
    visible: np.ndarray
    page: int


def why_not(layer: nn.Module) -> str | None:
    """Why a layer has no compiled step, or None."""
    block = layer.self_attn
    if not isinstance(layer, DecoderLayer) or not isinstance(block, MultiHeadLatentAttention | GroupedQueryAttention):
        return "only latent and grouped-query attention have a compiled step"
    if isinstance(block, MultiHeadLatentAttention) and block.q_lora_rank is None:
        return "it wants a query latent"
    for parameter in layer.parameters():
        if parameter.device.type != "cpu" or parameter.dtype != torch.float32 or not parameter.is_contiguous():
            return f"it wants contiguous float32 weights on a CPU, not {parameter.dtype} on {parameter.device.type}"
    if isinstance(layer.mlp, MixtureOfExperts) and layer.mlp.experts.ep_group is not None:
        return "its experts are spread over several processes"
    return None


def attention(layer: DecoderLayer) -> Latent | Grouped:
    """Of a layer that `why_not` has nothing against."""
    block = layer.self_attn
    if isinstance(block, GroupedQueryAttention):
        return _grouped(layer, block)
    assert isinstance(block, MultiHeadLatentAttention), "see why_not"
    return Latent(
        norm=array(layer.input_layernorm.weight),
        q_a=array(block.q_a_proj.weight),
        q_a_bias=array(block.q_a_proj.bias, 1),
        q_a_norm=array(block.q_a_layernorm.weight),
        q_b=array(block.q_b_proj.weight),
        kv_a=array(block.kv_a_proj_with_mqa.weight),
        kv_a_bias=array(block.kv_a_proj_with_mqa.bias, 1),
        kv_a_norm=array(block.kv_a_layernorm.weight),
        kv_b=array(block.kv_b_proj.weight.unflatten(0, (-1, block.nope + block.v_head_dim))),
        o=array(block.o_proj.weight),
        o_bias=array(block.o_proj.bias, 1),
        eps=np.float32(layer.input_layernorm.eps),
        scale=np.float32(block.scale),
    )


def _grouped(layer: DecoderLayer, block: GroupedQueryAttention) -> Grouped:
    q_norm, k_norm = block.q_norm, block.k_norm
    return Grouped(
        norm=array(layer.input_layernorm.weight),
        q=array(block.q_proj.weight),
        q_bias=array(block.q_proj.bias, 1),
        q_norm=array(None if q_norm is None else q_norm.weight, 1),
        k=array(block.k_proj.weight),
        k_bias=array(block.k_proj.bias, 1),
        k_norm=array(None if k_norm is None else k_norm.weight, 1),
        v=array(block.v_proj.weight),
        v_bias=array(block.v_proj.bias, 1),
        o=array(block.o_proj.weight),
        o_bias=array(block.o_proj.bias, 1),
        eps=np.float32(layer.input_layernorm.eps),
        head_eps=np.float32(0 if q_norm is None else q_norm.eps),
        scale=np.float32(block.scale),
    )


def indexer_of(layer: nn.Module) -> Indexer | None:
    """The layer's indexer, if it has one."""
    assert isinstance(layer.self_attn, MultiHeadLatentAttention | GroupedQueryAttention), "see why_not"
    return layer.self_attn.indexer


def index(indexer: Indexer | None) -> Index:
    """Of an indexer, or of none."""
    if indexer is None:
        matrix, vector = array(None, 2), array(None, 1)
        return Index(matrix, matrix, vector, vector, matrix, np.float32(0), False)
    return Index(
        wq_b=array(indexer.wq_b.weight),
        wk=array(indexer.wk.weight),
        k_weight=array(indexer.k_norm.weight),
        k_bias=array(indexer.k_norm.bias),
        weights=array(indexer.weights_proj.weight),
        scale=np.float32(indexer.scale),
        interleaved=indexer.rope_interleaved,
    )


def feed(layer: DecoderLayer) -> Feed:
    """Of a layer's second block."""
    block, norm = layer.mlp, array(layer.post_attention_layernorm.weight)
    eps = np.float32(layer.post_attention_layernorm.eps)
    if isinstance(block, GatedMLP):
        cube = array(None, 3)
        return Feed(
            norm, array(None, 2), array(None, 1), cube, cube, *_gated(block), eps, np.float32(1), 0, 1, 1, False
        )
    gate = block.gate
    return Feed(
        norm,
        array(gate.weight),
        array(gate.e_score_correction_bias),
        array(block.experts.gate_up_proj),
        array(block.experts.down_proj),
        *_gated(block.shared_experts),
        eps=eps,
        factor=np.float32(gate.routed_scaling_factor),
        num_chosen=gate.num_experts_per_tok,
        num_groups=gate.n_group,
        kept_groups=gate.topk_group,
        normalised=gate.norm_topk_prob,
    )


def prediction(layer: PredictionLayer) -> Prediction:
    """Of what a prediction layer has besides a decoder layer's blocks."""
    return Prediction(
        enorm=array(layer.enorm.weight),
        hnorm=array(layer.hnorm.weight),
        eh=array(layer.eh_proj.weight),
        norm=array(layer.shared_head.norm.weight),
        eps=np.float32(layer.enorm.eps),
    )


def _gated(block: GatedMLP | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if block is None:
        return array(None, 2), array(None, 2), array(None, 2)
    return array(block.gate_proj.weight), array(block.up_proj.weight), array(block.down_proj.weight)


def array(tensor: Tensor | None, num_dims: int = 0) -> np.ndarray:
    """The tensor's own memory; for None nothing, of so many dimensions."""
    return np.zeros((0,) * num_dims, np.float32) if tensor is None else tensor.detach().numpy()
