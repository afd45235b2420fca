"""The search for a sharing plan at nano size: seconds, what a layer and the head cost, and the count of layers run.

    python benchmarks/bench_search.py                         # 8 rows of 8,192 tokens, down to 3 of 12 indexers
    python benchmarks/bench_search.py --rows 1 --methods lazy
    python benchmarks/bench_search.py --parts                 # only the parts, in seconds

Random weights: times and counts are those of a trained model of this shape, losses and order say nothing. Run it on an
otherwise idle machine.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch

from godwit.base.machine import provenance
from godwit.indexcache.calibration import Row
from godwit.indexcache.engine import DecoderEngine
from godwit.indexcache.searching import search
from godwit.models.decoder import Decoder
from godwit.models.families.glm_moe_dsa import Config
from godwit.models.init import build

METHODS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "greedy, nothing kept": {"memory": 0},
    "lazy": {"lazy": True},
    "blocks": {"blocks": 3},
}


def nano() -> Decoder:
    """The bundled model's shape, about: 12 layers of width 160 with an indexer of 4 heads each."""
    config = Config(
        vocab_size=4096,
        hidden_size=160,
        intermediate_size=512,
        moe_intermediate_size=96,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=4,
        q_lora_rank=96,
        kv_lora_rank=64,
        qk_nope_head_dim=32,
        qk_rope_head_dim=16,
        v_head_dim=48,
        n_routed_experts=8,
        num_experts_per_tok=2,
        first_k_dense_replace=1,
        max_position_embeddings=32768,
        index_topk=256,
        index_n_heads=4,
        index_head_dim=32,
        num_nextn_predict_layers=0,
    )
    return build(config).eval()


def parts(model: Decoder, tokens_T: torch.Tensor, *, rounds: int = 3) -> dict[str, dict[str, float]]:
    """Least CPU and wall seconds of an F layer, an S layer and the head on one row, interleaved."""
    found: dict[str, dict[str, float]] = {}
    with torch.inference_mode(), DecoderEngine(model) as engine:
        run = engine.enter(Row.of(tokens_T))
        state = run.step(0, run.first, True)
        jobs: dict[str, Callable[[], object]] = {
            "F layer": lambda: run.step(1, state, True),
            "S layer": lambda: run.step(1, state, False),
            "head": lambda: run.losses(state),
        }
        for _ in range(rounds):
            for name, job in jobs.items():
                wall, cpu = time.perf_counter(), time.process_time()
                job()
                spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
                found[name] = {kind: min(spent[kind], found.get(name, spent)[kind]) for kind in spent}
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=8192)
    parser.add_argument("--keep", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["greedy", "lazy"])
    parser.add_argument("--parts", action="store_true", help="only the parts")
    given = parser.parse_args()
    model = nano()
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, 4096, (given.seq_len,), generator=generator) for _ in range(given.rows)]
    report: dict[str, object] = {"threads": torch.get_num_threads(), "parts": parts(model, rows[0])}
    for method in [] if given.parts else given.methods:
        begin = time.perf_counter()
        counters = search(model, rows, keep=given.keep, baselines=False, **METHODS[method]).counters
        share = counters.layer_evaluations / counters.naive_layer_evaluations
        report[method] = {"seconds": time.perf_counter() - begin, "share": share, "plans": counters.plan_evaluations}
    print(json.dumps(report | {"provenance": provenance()}, indent=2))


if __name__ == "__main__":
    main()
