"""Prefill of long documents: Godwit against Transformers on bench-nano, same weights, one interleaved run.

    python benchmarks/bench_sparse.py                            # 4,096 and 16,384 tokens, then 65,536 here alone
    python benchmarks/bench_sparse.py --lengths 4096 --topk 256 --rounds 5 --json out.json

Transformers runs 256-token chunks with its cache, the fastest way found for it (one shot is 4 x slower at 16K and takes
9 GB). Godwit runs the whole document; `chunks` runs 4,096 tokens at a time over a cache, as the engine does;
`1/4` keeps 2 of the 8 layers' indexers; `two-level` has a block filter before the exact index scores (what it
finds of the exact selection: `bench_two_level`). All give the logits of the last token only. Peak memory is each side's
own process: high-water mark during prefill less what was resident before it. Each part of Godwit's time stands beside
its floor (`sparse_floors`), and so do the parts of one layer of GLM-5's shape.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from bench_nano import BENCH_NANO  # pyrefly: ignore[missing-import]
from peak import peak_bytes  # pyrefly: ignore[missing-import]
from sparse_floors import line, matmul_rate, part, prefill_gflop, real_layer  # pyrefly: ignore[missing-import]

from godwit.base.machine import provenance
from godwit.models.decoder import Decoder
from godwit.models.families import config_from_hf
from godwit.models.init import empty
from godwit.nn.context import AttnContext
from godwit.nn.indexer import TwoLevel, set_two_level
from godwit.nn.pages import pages_for
from godwit.ops.backends import Op

CHUNK, OUR_CHUNK = 256, 4096
TRANSFORMERS_MAX = 16_384
# Beyond, one `index_topk` is enough: the first that is given.
ONE_TOPK_BEYOND = 16_384
BLOCK = 128
SHARED = "FSSS" * 2
Prefill = Callable[[torch.Tensor], torch.Tensor]


def two_level_of(topk: int) -> TwoLevel:
    """Blocks that hold at least twice what is selected; 16 where that is less."""
    return TwoLevel(block=BLOCK, num_blocks=max(16, -(-2 * topk // BLOCK)))


def transformers_prefill(topk: int) -> tuple[Prefill, dict[str, torch.Tensor]]:
    """Chunked prefill in Transformers, and its weights."""
    import transformers

    raw = BENCH_NANO | {"index_topk": topk}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(raw.pop("model_type"), **raw)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()

    @torch.inference_mode()
    def prefill(tokens_T: torch.Tensor) -> torch.Tensor:
        cache, logits_BLV = transformers.DynamicCache(config=config), torch.empty(0)
        for chunk in tokens_T.split(CHUNK):
            logits_BLV = model(chunk.unsqueeze(0), past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        return logits_BLV[0, -1]

    return prefill, {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("inv_freq")}


def godwit_model(topk: int, state: dict[str, torch.Tensor]) -> Decoder:
    """The same model here."""
    model = empty(config_from_hf(BENCH_NANO | {"index_topk": topk}), dtype=torch.float32, device="cpu").eval()
    model.load_state_dict(state)
    return model


def godwit_prefill(model: Decoder, two_level: TwoLevel | None, plan: str | None = None) -> Prefill:
    """Prefill of the whole document."""

    @torch.inference_mode()
    def prefill(tokens_T: torch.Tensor) -> torch.Tensor:
        set_two_level(model, two_level)
        hidden_TD = model.features(tokens_T, AttnContext.single(tokens_T.shape[0]), plan=plan).hidden_TD
        return model.logits(hidden_TD[-1])

    return prefill


def chunked_prefill(model: Decoder, plan: str | None = None) -> Prefill:
    """Prefill in chunks over a cache, whose rows are all that is kept of earlier chunks."""

    def prefill(tokens_T: torch.Tensor) -> torch.Tensor:
        set_two_level(model, None)
        cache = model.new_cache(num_pages=pages_for(tokens_T.shape[0]), plan=plan)
        sequence, logits_SV = cache.open(), torch.empty(0)
        for chunk_T in tokens_T.split(OUR_CHUNK):
            logits_SV = model.extend(chunk_T, cache, sequence).logits_SV
        return logits_SV[0]

    return prefill


def sides(topk: int) -> dict[str, Prefill]:
    """All contestants, with one set of weights."""
    theirs, state = transformers_prefill(topk)
    model = godwit_model(topk, state)
    return {
        "transformers": theirs,
        "godwit": godwit_prefill(model, None),
        "godwit, 1/4": godwit_prefill(model, None, plan=SHARED),
        "chunks": chunked_prefill(model),
        "chunks, 1/4": chunked_prefill(model, plan=SHARED),
        "two-level": godwit_prefill(model, two_level_of(topk)),
    }


def document(length: int) -> torch.Tensor:
    """Random tokens."""
    return torch.randint(0, BENCH_NANO["vocab_size"], (length,), generator=torch.Generator().manual_seed(1))


def interleaved(prefills: dict[str, Prefill], length: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of every prefill, sides in turn."""
    tokens_T, seconds = document(length), defaultdict(list)
    for _ in range(rounds):
        for name, prefill in prefills.items():
            start = time.perf_counter()
            prefill(tokens_T)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def parts(prefill: Prefill, length: int) -> dict[str, float]:
    """Seconds of one prefill by operation; "rest" is projections, norms, rotation and routing."""
    seconds: dict[str, float] = defaultdict(float)
    call = Op.__call__

    def timed(op: Op, *args: object, **kwargs: object) -> object:
        start = time.perf_counter()
        result = call(op, *args, **kwargs)
        seconds[op.name] += time.perf_counter() - start
        return result

    start = time.perf_counter()
    with mock.patch.object(Op, "__call__", timed):
        prefill(document(length))
    return {**seconds, "rest": time.perf_counter() - start - sum(seconds.values())}


def peak_memory(side: str, length: int, topk: int, threads: int) -> int:
    """Bytes a side needs on top of its resident model, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_memory, (side, length, topk, threads))


def _measure_memory(side: str, length: int, topk: int, threads: int) -> int:
    torch.set_num_threads(threads)
    prefill = sides(topk)[side]
    # Compilers and thread pools are there once, whatever the length.
    prefill(document(2 * topk))
    return peak_bytes(lambda: prefill(document(length)))


def bench(length: int, topk: int, options: argparse.Namespace, rate: float) -> dict[str, object]:
    """Both sides at one length: times, memory, parts beside their floors."""
    everyone = sides(topk)
    here = {n: p for n, p in everyone.items() if n != "transformers" or length <= TRANSFORMERS_MAX}
    for prefill in here.values():
        # Long enough to compile everything.
        prefill(document(topk + 256))
    seconds = interleaved(here, length, options.rounds)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    memory = {name: peak_memory(name, length, topk, options.threads) for name in here}
    print(f"{length} tokens, index_topk {topk}")
    for name, median in medians.items():
        ratio = f"{medians['transformers'] / median:6.1f} x" if "transformers" in medians else ""
        print(f"  {name:<13} {median:7.2f} s   {memory[name] / 1e6:6.0f} MB {ratio}")
    gflop, shares = prefill_gflop(BENCH_NANO | {"index_topk": topk}, length), {}
    for name in ("godwit", "two-level"):
        shares[name] = parts(here[name], length)
        print(f"  {name}")
        for op, spent in shares[name].items():
            # Two levels make other scores: their floor is that of another operation.
            print(line(op, part(spent, gflop[op], rate)) if op in gflop else f"    {op:<16} {spent:7.2f} s")
    result = {"length": length, "topk": topk, "seconds": seconds, "peak_bytes": memory, "parts": shares, "gflop": gflop}
    return result


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 16_384, 65_536])
    parser.add_argument("--topk", type=int, nargs="+", default=[BENCH_NANO["index_topk"], 2048])
    parser.add_argument("--rounds", type=int, default=3, help="prefills of each side that are timed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, load {os.getloadavg()[0]:.1f} before the start")
    rate, results = matmul_rate(), []
    print(f"matrix products run at {rate:.0f} GFLOP/s: the floor of every part")
    for length in options.lengths:
        for topk in options.topk[: None if length <= ONE_TOPK_BEYOND else 1]:
            # Shorter documents are dense attention.
            if length > topk:
                results.append(bench(length, topk, options, rate))
    length = min(max(options.lengths), TRANSFORMERS_MAX)
    print(f"one layer of GLM-5's shape, the last queries of {length} tokens")
    layer = real_layer(length, options.rounds, rate=rate)
    for name, found in layer.items():
        print(line(name, found))
    figures = {"results": results, "real_layer": {name: found._asdict() for name, found in layer.items()}}
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": provenance(), **figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
