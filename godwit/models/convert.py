"""Give a dense model lightning indexers: the weights stay byte for byte, only indexers are added.

| from | to | who loads it |
|---|---|---|
| `glm4_moe_lite` | `glm_moe_dsa` | Transformers (tested), vLLM (its loader: `tools/check_vllm.py`), Godwit |
| `deepseek_v3` | `deepseek_v32` | the same |
| `glm4_moe`, `llama`, `qwen3` | `glm4_moe_dsa`, `llama_dsa`, `qwen3_dsa` | Godwit alone |

Exact while no document is longer than `index_topk`: the selection is then everything before a token. Latent attention
keeps its expert groups and YaRN, for the two sparse families compute them as the dense ones do. Fresh indexers are
drawn as all weights here are (`godwit.models.init`): N(0, initializer_range), k_norm 1 and 0, a seed per parameter
name. Beyond `index_topk` they choose at random until they are trained (DeepSeek-V3.2, arXiv 2512.02556, section 2.1).
The prediction layer keeps its weights and gets an indexer too. Quantised checkpoints and latent models without a query
latent are refused.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.models.config import DecoderConfig
from godwit.models.families import FAMILIES
from godwit.models.flops import flops_per_token
from godwit.models.indexed import IndexedConfig
from godwit.models.init import empty, fill, unsharded
from godwit.models.latent import LatentConfig
from godwit.models.weights import extend, inspect
from godwit.nn.share_plan import SharePlan

TARGETS = {
    "glm4_moe_lite": "glm_moe_dsa",
    "deepseek_v3": "deepseek_v32",
    "glm4_moe": "glm4_moe_dsa",
    "llama": "llama_dsa",
    "qwen3": "qwen3_dsa",
}
LOADED_ELSEWHERE = frozenset({"glm_moe_dsa", "deepseek_v32"})
INDEXER = ".self_attn.indexer."

PUBLISHED_TOPK, PUBLISHED_HEAD_DIM = 2048, 128  # GLM-5 and DeepSeek-V3.2
# GLM-5's adaptation (arXiv 2602.15763): 1000 steps of 14 sequences of 202,752 tokens, then 20B tokens.
WARMUP_STEPS, WARMUP_SEQUENCES, WARMUP_SEQ_LEN = 1000, 14, 202_752
SPARSE_TOKENS = 20_000_000_000


@dataclass(frozen=True, kw_only=True)
class IndexerShape:
    """What is asked of the indexers; None takes the default for the model's size (see `sparse_config`)."""

    index_topk: int | None = None
    index_n_heads: int | None = None
    index_head_dim: int | None = None
    plan: str | None = None
    """Sharing plan, one letter a layer: only F layers get an indexer. None is F everywhere."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What a conversion added.

    Attributes:
        dense: config of the model as it was.
        config: config of the model as it is now.
        added: elements per layer that got an indexer (the prediction layer's number is `num_hidden_layers`).
        added_bytes: of all indexers on disk.
        dtype: in which they were written.
    """

    dense: DecoderConfig
    config: IndexedConfig
    added: dict[int, int]
    added_bytes: int
    dtype: torch.dtype


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Tokens and FLOPs of the published adaptation, at the length the model has."""

    seq_len: int
    warmup_tokens: int
    warmup_flops: float
    sparse_tokens: int
    sparse_flops: float


def convert(source: str | Path, folder: str | Path, *, shape: IndexerShape, seed: int = 0) -> Conversion:
    """Write the checkpoint in `source` with indexers to `folder`.

    The checkpoint's files are copied as they are; memory is that of the indexers.

    Raises:
        GodwitError: a model that cannot be converted, a shape that does not fit it, or a damaged checkpoint.
        RunStoppedError: no space, or a write failed.
    """
    checkpoint = inspect(source)
    config = sparse_config(checkpoint.config, shape)
    if checkpoint.matched.scales or "quantization_config" in checkpoint.raw:
        raise GodwitError(
            f"{source} is quantised, and indexers are added in full precision; write it plainly first: "
            'model = godwit.load(FOLDER, dtype="bfloat16"); godwit.save(model, model.config, NEW)'
        )
    indexers = fresh_indexers(config, seed=seed, dtype=checkpoint.dtype)
    extend(checkpoint, config, indexers, folder)
    added: dict[int, int] = {}
    for name, tensor in indexers.items():
        layer = int(name.split(".")[2])
        added[layer] = added.get(layer, 0) + tensor.numel()
    num_bytes = sum(tensor.nbytes for tensor in indexers.values())
    return Conversion(
        dense=checkpoint.config, config=config, added=added, added_bytes=num_bytes, dtype=checkpoint.dtype
    )


def sparse_config(dense: DecoderConfig, shape: IndexerShape) -> IndexedConfig:
    """The config of `dense` with indexers.

    Defaults: `index_topk` 2048, or an eighth of `max_position_embeddings` where that is less; half as many index heads
    as attention heads (GLM-5: 32 of 64, DeepSeek-V3.2: 64 of 128), rounded up to a multiple of 8; `index_head_dim` 128,
    or a sixteenth of the hidden size as a power of two where that is less (16 at least), wide enough to be rotated.

    Raises:
        GodwitError: already sparse, no sparse counterpart, no query latent, or a shape that does not fit.
    """
    if dense.plan is not None:
        raise GodwitError(f"a {dense.model_type} model has indexers already; train it with godwit train dsa:warmup")
    if dense.model_type not in TARGETS:
        raise GodwitError(f"no sparse family for {dense.model_type}; choose from {', '.join(sorted(TARGETS))}")
    if isinstance(dense, LatentConfig) and dense.q_lora_rank is None:
        raise GodwitError(
            f"this {dense.model_type} model has no query latent (q_lora_rank is null), which the indexer reads; "
            "only models with one can be converted"
        )
    longest = dense.max_position_embeddings
    topk = max(1, min(PUBLISHED_TOPK, longest // 8)) if shape.index_topk is None else shape.index_topk
    if topk >= longest:
        raise GodwitError(
            f"index_topk {topk} reaches the model's {longest} positions, so nothing would ever be left out; "
            f"choose one below, e.g. --index_topk {max(1, longest // 8)}"
        )
    values = {field.name: getattr(dense, field.name) for field in dataclasses.fields(dense)}
    values |= {"model_type": TARGETS[dense.model_type], "index_topk": topk}
    values["index_n_heads"] = _or(shape.index_n_heads, -(-dense.num_attention_heads // 16) * 8)
    values["index_head_dim"] = _or(shape.index_head_dim, _head_dim(dense))
    if shape.plan is not None:
        values["indexer_types"] = SharePlan.parse(shape.plan, dense.num_hidden_layers).types
    return FAMILIES.load(TARGETS[dense.model_type]).Config(**values)


def fresh_indexers(config: IndexedConfig, *, seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Newly drawn indexers by state-dict name: those `build(config, seed=seed)` would have."""
    meta = empty(config, dtype=dtype, device="meta").state_dict()
    indexers = {name: torch.empty_like(tensor, device="cpu") for name, tensor in meta.items() if INDEXER in name}
    for name, tensor in indexers.items():
        fill(name, unsharded(name, torch.nn.Parameter(tensor)), seed=seed, std=config.initializer_range)
    return indexers


def published_cost(config: IndexedConfig) -> Cost:
    """What GLM-5's adaptation costs for this model, at GLM-5's length or the model's own where that is less.

    Warm-up runs the layers forward with dense attention, once more the attention scores (the teacher's distribution),
    and the indexers forward and backward; nothing flows back through the model. The sparse stage trains everything.
    The prediction layer is left out of both.
    """
    seq_len = min(WARMUP_SEQ_LEN, config.max_position_embeddings)
    dense = flops_per_token(config, seq_len, dense=True)
    sparse = flops_per_token(config, seq_len)
    warmup = dense.forward - dense.head + dense.attention_core / 2 + 3 * sparse.indexer
    tokens = WARMUP_STEPS * WARMUP_SEQUENCES * seq_len
    return Cost(
        seq_len=seq_len,
        warmup_tokens=tokens,
        warmup_flops=tokens * warmup,
        sparse_tokens=SPARSE_TOKENS,
        sparse_flops=SPARSE_TOKENS * sparse.training,
    )


def _or(given: int | None, default: int) -> int:
    return default if given is None else given


def _head_dim(dense: DecoderConfig) -> int:
    wanted = max(16, min(PUBLISHED_HEAD_DIM, dense.hidden_size // 16), dense.rope_width)
    return 1 << (wanted - 1).bit_length()
