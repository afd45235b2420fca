"""How far the parts of a prefill are from their floor: FLOPs of each part over the matrix-product rate of this machine.

The floor of a part is its multiply-adds, twice, over what `torch.matmul` reaches here on 1024 x 1024 matrices. Index
scores and attention count only the pairs they look at. `real_layer` times both at GLM-5's shape (64 heads over latents
of 512 + 64, indexer 32 x 128, index_topk 2048), for the last queries of a document: a whole layer would take minutes,
and everything that is not attention is left out, being matrix products.
"""

import time
from typing import Any, NamedTuple

import torch

from godwit.nn.context import AttnContext
from godwit.ops.index_topk import index_topk
from godwit.ops.index_two_level import index_two_level
from godwit.ops.sparse_mla import sparse_mla

LAST_QUERIES = 512
REAL_TOPK = 2048


class Part(NamedTuple):
    """Seconds spent, multiply-adds in GFLOP, and the share of the machine's matrix rate."""

    seconds: float
    gflop: float
    of_floor: float


def matmul_rate(rounds: int = 20) -> float:
    """GFLOP/s of a matrix product, the best of some."""
    a_NN, best = torch.randn(1024, 1024), float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        a_NN @ a_NN
        best = min(best, time.perf_counter() - start)
    return 2 * 1024**3 / best / 1e9


def prefill_gflop(raw: dict[str, Any], length: int) -> dict[str, float]:
    """GFLOP of a whole prefill by operation, as `bench_sparse.parts` names them; `raw` is a config."""
    layers, dense, heads = raw["num_hidden_layers"], raw["first_k_dense_replace"], raw["num_attention_heads"]
    hidden, latent, rope = raw["hidden_size"], raw["kv_lora_rank"], raw["qk_rope_head_dim"]
    nope, value, query = raw["qk_nope_head_dim"], raw["v_head_dim"], raw["q_lora_rank"]
    index, topk = raw["index_n_heads"] * raw["index_head_dim"], raw["index_topk"]
    moe, chosen, shared = raw["moe_intermediate_size"], raw["num_experts_per_tok"], raw["n_shared_experts"]
    pairs = sum(min(t, topk) for t in range(1, length + 1))
    # Rows that see at most `topk` positions take them all without a score.
    scored = length * (length + 1) / 2 - min(topk, length) * (min(topk, length) + 1) / 2
    projections = hidden * query + query * heads * (nope + rope) + hidden * (latent + rope)
    projections += heads * latent * (nope + value) + heads * value * hidden
    projections += query * index + hidden * (raw["index_head_dim"] + raw["index_n_heads"])
    feed_forward = dense * 3 * hidden * raw["intermediate_size"]
    feed_forward += (layers - dense) * hidden * (3 * shared * moe + raw["n_routed_experts"])
    return {
        "index_topk": 2e-9 * layers * scored * index,
        "sparse_mla": 2e-9 * layers * pairs * heads * (2 * latent + rope),
        "experts": 2e-9 * (layers - dense) * length * chosen * 3 * hidden * moe,
        "rest": 2e-9 * length * (layers * projections + feed_forward),
    }


def real_layer(length: int, rounds: int, *, rate: float) -> dict[str, Part]:
    """Selection (exact and in two levels) and attention of one layer at GLM-5's shape, the last queries only."""
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    asked, topk = min(LAST_QUERIES, length), min(REAL_TOPK, length)
    q_QHD, k_TD, w_QH = randn(asked, 32, 128), randn(length, 128), randn(asked, 32)
    q_QHW, c_TW, context = randn(asked, 64, 576), randn(length, 576), AttnContext.single(length)
    index_QK = index_topk(q_QHD, k_TD, w_QH, context, topk=topk, query_seqlens=(asked,))
    exact = {"topk": topk, "query_seqlens": (asked,)}
    works = {
        "index_topk": lambda: index_topk(q_QHD, k_TD, w_QH, context, **exact),
        "index_two_level": lambda: index_two_level(q_QHD, k_TD, w_QH, context, **exact, block=128, num_blocks=64),
        "sparse_mla": lambda: sparse_mla(q_QHW, c_TW, index_QK, scale=576**-0.5, latent_width=512),
    }
    seen = sum(range(length - asked + 1, length + 1))
    filtered = sum(min(64 * 128, t) + t / 128 for t in range(length - asked + 1, length + 1))
    gflop = {
        "index_topk": 2e-9 * seen * 32 * 128,
        "index_two_level": 2e-9 * filtered * 32 * 128,
        "sparse_mla": 2e-9 * int((index_QK >= 0).sum()) * 64 * (576 + 512),
    }
    best = dict.fromkeys(works, float("inf"))
    with torch.inference_mode():
        for _ in range(rounds + 1):  # the first compiles
            for name, work in works.items():
                start = time.perf_counter()
                work()
                best[name] = min(best[name], time.perf_counter() - start)
    return {name: part(best[name], gflop[name], rate) for name in works}


def part(seconds: float, gflop: float, rate: float) -> Part:
    """A part beside its floor."""
    return Part(seconds, gflop, gflop / rate / seconds)


def line(name: str, found: Part) -> str:
    """One row of a table."""
    floor = found.seconds * found.of_floor
    return (
        f"    {name:<16} {found.seconds:7.2f} s {found.gflop:8.1f} GFLOP   floor {floor:6.2f} s ({found.of_floor:.0%})"
    )
