"""Decoding one token at a time: Godwit against Transformers on bench-nano, same weights, one interleaved run.

    python benchmarks/bench_decode.py                            # contexts of 1,024 and 16,384 tokens
    python benchmarks/bench_decode.py --contexts 1024 --tokens 50 --threads 1 --json out.json

Both fill a cache by prefill in chunks, then take turns at blocks of single tokens; a figure is the median of all.
Transformers uses its DynamicCache and sdpa, in 256-token chunks, its best way. `blocks` is Godwit through the ordinary
modules, without the compiled step; `plan 1/4` keeps every fourth indexer, `plan 1/8` one. The indexers' share is
measured by what a plan without them saves, that of the feed-forward blocks and the head by running them alone.
"""

import argparse
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_nano import BENCH_NANO  # pyrefly: ignore[missing-import]

from godwit.base.machine import provenance
from godwit.models.decoder import Decoder
from godwit.models.families import config_from_hf
from godwit.models.generate import prefill
from godwit.models.init import empty
from godwit.models.step import CompiledStep
from godwit.nn.pages import pages_for
from godwit.ops.backends import use

CHUNK = 256
BLOCK = 10
QUARTER = "FSSSFSSS"
ONE = "FSSSSSSS"
Decode = Callable[[int], None]


def transformers_model() -> tuple[Any, dict[str, torch.Tensor]]:
    """The model there, and its weights."""
    import transformers

    raw = dict(BENCH_NANO)
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(raw.pop("model_type"), **raw)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    return model, {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("inv_freq")}


def transformers_decode(model: Any, tokens_T: torch.Tensor) -> Decode:
    """Fill its cache; the next token on call."""
    import transformers

    cache = transformers.DynamicCache(config=model.config)

    @torch.inference_mode()
    def decode(token: int) -> None:
        model(torch.tensor([[token]]), past_key_values=cache, use_cache=True, logits_to_keep=1)

    with torch.inference_mode():
        for chunk in tokens_T.split(CHUNK):
            model(chunk.unsqueeze(0), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return decode


def godwit_decode(model: Decoder, tokens_T: torch.Tensor, room: int, plan: str | None, blocks: bool) -> Decode:
    """Fill a cache of its own; the next token on call."""
    cache = model.new_cache(num_pages=pages_for(tokens_T.shape[0] + room), plan=plan)
    sequence = cache.open()
    prefill(model, cache, [sequence], [tokens_T.tolist()])

    def decode(token: int) -> None:
        if blocks:
            # Asking for a backend by name leaves the compiled step out; this one is what is chosen anyway.
            with use(experts="grouped"):
                model.extend(torch.tensor([token]), cache, sequence)
        else:
            model.extend(torch.tensor([token]), cache, sequence)

    return decode


def sides(model: Decoder, theirs: Any, context: int, room: int) -> dict[str, Decode]:
    """All contestants, each with a cache of `context` tokens."""
    tokens_T = torch.randint(0, BENCH_NANO["vocab_size"], (context,), generator=torch.Generator().manual_seed(1))
    found: dict[str, Decode] = {} if theirs is None else {"transformers": transformers_decode(theirs, tokens_T)}
    for name, plan, blocks in (
        ("godwit", None, False),
        ("plan 1/4", QUARTER, False),
        ("plan 1/8", ONE, False),
        ("blocks", None, True),
    ):
        found[name] = godwit_decode(model, tokens_T, room, plan, blocks)
    return found


def interleaved(decoders: dict[str, Decode], tokens: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of every token, sides in turn, blocks of tokens each; the first block is not counted."""
    seconds = defaultdict(list)
    for block in range(-1, -(-tokens // BLOCK)):
        for name, decode in decoders.items():
            for token in range(BLOCK):
                start = clock()
                decode(17 * (block + 2) + token)
                if block >= 0:
                    seconds[name].append(clock() - start)
    return seconds


def shares(model: Decoder, medians: dict[str, float], clock: Callable[[], float]) -> dict[str, float]:
    """Seconds of a token by part."""
    from godwit.nn.step import _kernel

    indexers = (medians["godwit"] - medians["plan 1/8"]) * len(ONE) / (len(ONE) - 1)
    step = CompiledStep(model, cache=model.new_cache(num_pages=1))
    x, out = step.embed[:1].copy(), np.empty((1, step.head.shape[0]), np.float32)
    feed, head = [], []
    for _ in range(3 * BLOCK):
        start = clock()
        for layer in step.layers:
            _kernel.add_feed_forward(x, layer.feed)
        middle = clock()
        _kernel.logits(_kernel.normalised(x, step.norm, step.eps), step.head, torch.get_num_threads(), out)
        feed.append(middle - start)
        head.append(clock() - middle)
    found = {"indexers": indexers, "feed-forward": statistics.median(feed), "head": statistics.median(head)}
    return found | {"attention, Python": medians["godwit"] - sum(found.values())}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", type=int, nargs="+", default=[1024, 16_384])
    parser.add_argument("--tokens", type=int, default=100, help="tokens of each side that are timed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="process time instead of the wall clock (busy machine)")
    parser.add_argument("--alone", action="store_true", help="leave Transformers out")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock, results = time.process_time if options.cpu_time else time.perf_counter, []
    theirs, state = transformers_model()
    model = empty(config_from_hf(BENCH_NANO), dtype=torch.float32, device="cpu").eval()
    model.load_state_dict(state)
    print(f"{options.threads} threads, load {os.getloadavg()[0]:.1f} before the start")
    for context in options.contexts:
        room = options.tokens + 2 * BLOCK
        seconds = interleaved(sides(model, None if options.alone else theirs, context, room), options.tokens, clock)
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        parts = shares(model, medians, clock)
        results.append({"context": context, "seconds": seconds, "medians": medians, "parts": parts})
        print(f"context of {context} tokens, milliseconds a token (median, fastest)")
        for name, median in medians.items():
            ratio = f"{medians['transformers'] / median:6.1f} x" if "transformers" in medians else ""
            print(f"  {name:<13} {1e3 * median:8.2f} {1e3 * min(seconds[name]):8.2f} {ratio}")
        print("  of godwit's: " + ", ".join(f"{part} {1e3 * spent:.2f}" for part, spent in parts.items()))
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": provenance(), "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
