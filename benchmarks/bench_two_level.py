"""The two-level index search against the exact one: time at lengths up to 256K, and what it finds of the selection.

    python benchmarks/bench_two_level.py                          # time at 16K, 64K and 256K tokens
    python benchmarks/bench_two_level.py --model nano --blocks 16 32 --lengths 8192 16384    # what is found, only that

Time is that of the last queries of a document, in milliseconds for 1,000 of them, sides in turn, least of the rounds:
of bench-nano's indexer (4 heads of 32, index_topk 256, 16 blocks of 128) and GLM-5's (32 of 128, 2,048, 64 blocks, as
HISA's). The exact search costs as many scores as there are keys, so a prefill grows with the square of its length.

`--model` runs a trained model over the standard library's sources, all layers searching in two levels, and compares the
positions of each layer's last 512 queries with those of the exact search over the same states.
"""

import argparse
import json
import statistics
import sysconfig
import time
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor

import godwit
from godwit.base.errors import GodwitError
from godwit.base.machine import provenance
from godwit.models.bundled import resolve
from godwit.models.decoder import Decoder
from godwit.nn.attention import AttnInput, IndexStates
from godwit.nn.context import AttnContext
from godwit.nn.indexer import Indexer, TwoLevel, set_two_level
from godwit.ops.index_topk import index_topk
from godwit.ops.index_two_level import index_two_level
from godwit.text.tokenizer import Tokenizer

BLOCK, COMPARED = 128, 512


class Shape(NamedTuple):
    """An indexer, and how many queries are timed."""

    heads: int
    width: int
    topk: int
    num_blocks: int
    num_queries: int


SHAPES = {"bench-nano": Shape(4, 32, 256, 16, 4096), "GLM-5": Shape(32, 128, 2048, 64, 512)}


def times(shape: Shape, length: int, rounds: int) -> dict[str, float]:
    """Milliseconds for 1,000 of the last queries."""
    generator = torch.Generator().manual_seed(0)
    q_QHD = torch.randn(shape.num_queries, shape.heads, shape.width, generator=generator)
    k_TD = torch.randn(length, shape.width, generator=generator)
    w_QH, context = torch.rand(shape.num_queries, shape.heads, generator=generator), AttnContext.single(length)
    given: dict[str, Any] = {"topk": shape.topk, "query_seqlens": (shape.num_queries,)}
    sides = {
        "exact": lambda: index_topk(q_QHD, k_TD, w_QH, context, **given),
        "two-level": lambda: index_two_level(
            q_QHD, k_TD, w_QH, context, **given, block=BLOCK, num_blocks=shape.num_blocks
        ),
    }
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(rounds + 1):  # the first compiles
        for name, work in sides.items():
            start = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: seconds * 1e6 / shape.num_queries for name, seconds in best.items()}


def real_text(folder: Path, length: int) -> Tensor:
    """Tokens of the standard library's sources, module after module in order of their paths."""
    tokenizer, tokens = Tokenizer.load(folder), list[int]()
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        tokens += tokenizer.encode(file.read_text(encoding="utf-8"))
        if len(tokens) >= length:
            return torch.tensor(tokens[:length])
    raise GodwitError(f"the standard library's modules have {len(tokens)} tokens, {length} were asked for")


@torch.inference_mode()
def recall(model: Decoder, tokens_T: Tensor, two_level: TwoLevel) -> list[float]:
    """Per layer, the share of the exact selection that two levels find for the last queries."""
    found: list[float] = []
    choose = Indexer.select

    def compared(indexer: Indexer, states: IndexStates, batch: AttnInput) -> Tensor:
        chosen_TK, last = choose(indexer, states, batch), slice(-COMPARED, None)
        exact_QK = index_topk(
            states.q_THA[last], states.k_TA, states.w_TH[last], batch.context, topk=indexer.index_topk,
            query_seqlens=(COMPARED,),
        )  # fmt: skip
        rows = zip(chosen_TK[last].tolist(), exact_QK.tolist(), strict=True)
        found.append(statistics.mean(len(set(row) & set(exact)) / len(exact) for row, exact in rows))
        return chosen_TK

    set_two_level(model, two_level)
    with mock.patch.object(Indexer, "select", compared):
        model.features(tokens_T, AttnContext.single(len(tokens_T)))
    return found


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[16_384, 65_536, 262_144])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", help="a bundled model or a folder: what two levels find in it, nothing timed")
    parser.add_argument("--blocks", type=int, nargs="+", default=[16], help="blocks kept, with --model")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures: list[dict[str, Any]] = []
    if options.model is None:
        for name, shape in SHAPES.items():
            for length in options.lengths:
                found = times(shape, length, options.rounds)
                figures.append({"shape": name, "length": length, "milliseconds": found})
                ratio = found["exact"] / found["two-level"]
                print(f"{name:<10} {length:>7} tokens   exact {found['exact']:8.1f} ms   ", end="")
                print(f"two-level {found['two-level']:7.1f} ms   {ratio:5.1f} x")
    else:
        folder = resolve(options.model)
        model = godwit.load(folder).eval()
        for length in options.lengths:
            # While the blocks hold all that a query sees, both are the same.
            for num_blocks in (n for n in options.blocks if n * BLOCK <= length - COMPARED):
                shares = recall(model, real_text(folder, length), TwoLevel(block=BLOCK, num_blocks=num_blocks))
                figures.append({"model": options.model, "length": length, "num_blocks": num_blocks, "recall": shares})
                mean, least = statistics.mean(shares), min(shares)
                print(f"{length:>7} tokens, {num_blocks} blocks: {mean:.1%} found, in the worst layer {least:.1%}")
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": provenance(), "figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
