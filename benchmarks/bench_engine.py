"""The engine: many requests against Transformers, a long prompt twice, drafts, what a step costs besides the model.

    python benchmarks/bench_engine.py                       # all parts, nano, two threads
    python benchmarks/bench_engine.py --parts overhead drafts --threads 1 --json out.json
    python benchmarks/bench_engine.py --parts drafts --model FOLDER     # another model

requests: 32 at once, four shared beginnings, mixed lengths, greedy; the same weights in Transformers, one by one and in
    left-padded batches of 8, sides in turn by quarters. Its own continuous batching (`generate_batch`) is tried too; it
    refuses this family, and its cache cannot hold latent attention (said with its own words).
continuous: the same requests to a random model of nano's size with grouped queries, which `generate_batch` takes; the
    texts of both are compared.
prefix: seconds to the first token of an 8K prompt, and of the same again.
drafts: one request by different numbers of drafts. A small model that learns one text by heart here first says that
    text; then the model goes on, greedily, behind passages of source code, one line each.
overhead: 16 requests decode; the share of a step outside the decoder, and outside decoder and sampler.
deterministic: the 32 requests of the first part with and without deterministic mode.
compile: decoding steps of the ordinary modules, plain and with each layer under torch.compile, and the compiled step.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from engine_peers import (  # pyrefly: ignore[missing-import]
    QUARTERS,
    bench_continuous,
    bench_requests,
    requests,
    serve,
    text_tokens,
)

from godwit.base.machine import provenance
from godwit.engine.config import EngineConfig
from godwit.engine.engine import Engine
from godwit.engine.params import SamplingParams
from godwit.models.bundled import resolve
from godwit.models.decoder import Decoder
from godwit.models.families import config_from_hf
from godwit.models.generate import prefill
from godwit.models.init import build
from godwit.models.weights import load
from godwit.ops.backends import use
from godwit.text.tokenizer import Tokenizer

SMALL: dict[str, Any] = {
    "model_type": "glm_moe_dsa", "hidden_size": 128, "intermediate_size": 256, "moe_intermediate_size": 64,
    "num_hidden_layers": 8, "first_k_dense_replace": 8, "num_attention_heads": 4, "num_key_value_heads": 4,
    "q_lora_rank": 64, "kv_lora_rank": 64, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32,
    "n_routed_experts": 4, "num_experts_per_tok": 1, "n_shared_experts": 1, "index_n_heads": 4, "index_head_dim": 32,
    "index_topk": 256, "max_position_embeddings": 4096, "num_nextn_predict_layers": 1,
}  # fmt: skip


def first_token(engine: Engine, prompt: list[int]) -> float:
    """Seconds from adding to the first token."""
    start = time.perf_counter()
    engine.add(prompt, SamplingParams(max_tokens=1, temperature=0))
    while not any(delta.token_ids for delta in engine.step()):
        pass
    return time.perf_counter() - start


def bench_prefix(model: Decoder, tokenizer: Tokenizer, repeats: int) -> dict[str, float]:
    """The first and the second time, medians over so many prompts."""
    engine, text = Engine(model, tokenizer=tokenizer, config=EngineConfig()), text_tokens(tokenizer) * 2
    first_token(engine, text[:600])
    pairs = []
    for place in range(repeats):
        prompt = [place + 5, *text[:8191]]
        pairs.append((first_token(engine, prompt), first_token(engine, prompt)))
    first, second = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    return {"first": first, "second": second, "share": statistics.median(b / a for a, b in pairs)}


def learn(tokenizer: Tokenizer, seconds: float) -> tuple[Decoder, list[int]]:
    """A small model that knows 512 tokens by heart, prediction layer included."""
    text = text_tokens(tokenizer)[:512]
    model = build(config_from_hf(SMALL | {"vocab_size": tokenizer.vocab_size}), seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    tokens, start = torch.tensor(text), time.perf_counter()
    context, steps, loss = model.context(tokens[:-1]), 0, torch.tensor(9.0)
    while time.perf_counter() - start < seconds and loss.item() > 0.02:
        features = model.features(tokens[:-1], context, dense=True, num_mtp_depths=3)
        loss = F.cross_entropy(model.logits(features.hidden_TD), tokens[1:])
        for depth, hidden_TD in enumerate(features.mtp_hidden):
            ahead = tokens[depth + 2 :]
            loss = loss + F.cross_entropy(model.logits(hidden_TD[: len(ahead)]), ahead) / 3
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
    print(f"drafts: learnt {len(text)} tokens in {steps} steps, {time.perf_counter() - start:.0f} s, loss {loss:.3f}")
    return model.eval(), text


def bench_drafts(model: Decoder, tokenizer: Tokenizer, seconds: float) -> dict[str, Any]:
    """By prompt: speed-up and acceptance length for different numbers of drafts."""
    small, text = learn(tokenizer, seconds)
    found = {"by heart": with_drafts(small, tokenizer, text[:32])}
    if model.config.num_nextn_predict_layers:
        text = text_tokens(tokenizer)
        prompts = {f"tokens {at} to {at + 250}": text[at : at + 250] for at in range(0, 6000, 1000)}
        found |= {name: with_drafts(model, tokenizer, prompt) for name, prompt in prompts.items()}
    return found


def with_drafts(model: Decoder, tokenizer: Tokenizer, prompt: list[int]) -> dict[str, str]:
    """128 tokens by 0 to 3 drafts, sides in turn; the texts must be the same."""
    params = SamplingParams(max_tokens=128, temperature=0, ignore_eos=True)
    engines = {
        drafts: Engine(
            model, tokenizer=tokenizer, config=EngineConfig(speculate=drafts, num_pages=16, prefix_cache=False)
        )
        for drafts in range(4)
    }
    times: dict[int, list[float]] = {drafts: [] for drafts in engines}
    texts = set()
    for turn in range(6):
        for drafts, engine in engines.items():
            engine.add(prompt, params)
            # The prompt's own step is the same for all.
            tokens = [token for delta in engine.step() for token in delta.token_ids]
            start = time.perf_counter()
            while engine.has_work:
                tokens += [token for delta in engine.step() for token in delta.token_ids]
            if turn:
                times[drafts].append(time.perf_counter() - start)
            texts.add(tuple(tokens))
    assert len(texts) == 1, "drafts changed the text"
    plain = statistics.median(times[0])
    found = {}
    for drafts, engine in engines.items():
        taken = statistics.median(times[drafts])
        # The prompt's step and those that decode: six times 127 tokens came from the latter.
        length = 6 * 127 / (engine.stats().num_steps - 6)
        found[f"{drafts} drafts"] = f"{127 / taken:.0f} tokens/s, {plain / taken:.2f}x, {length:.2f} tokens a step"
    return found


def bench_deterministic(model: Decoder, tokenizer: Tokenizer) -> dict[str, float]:
    """Tokens a second, sides in turn; medians."""
    many, seconds = requests(tokenizer), {False: [], True: []}
    serve(model, tokenizer, many[:4])
    for _ in range(QUARTERS):
        for deterministic, taken in seconds.items():
            taken.append(serve(model, tokenizer, many, deterministic=deterministic)["seconds"])
    plain, fixed = (statistics.median(taken) for taken in seconds.values())
    tokens = sum(count for _, count in many)
    return {"plain": tokens / plain, "deterministic": tokens / fixed, "slower": fixed / plain}


def bench_compile(model: Decoder, tokenizer: Tokenizer) -> dict[str, float]:
    """Milliseconds of a step of 16 sequences of 300 tokens, sides in turn; medians."""
    text, cache = text_tokens(tokenizer), model.new_cache(num_pages=16 * 3)
    sequences = [cache.open() for _ in range(16)]
    prefill(model, cache, sequences, [text[300 * n : 300 * n + 300] for n in range(16)])
    tokens_T = torch.tensor(text[:16])
    forwards = {"modules": [layer.forward for layer in model.decoder_layers()]}
    start = time.perf_counter()
    forwards["torch.compile"] = [torch.compile(layer.forward, dynamic=True) for layer in model.decoder_layers()]
    times: dict[str, list[float]] = {name: [] for name in ("compiled step", *forwards)}
    found = {}
    for turn in range(25):
        for name, taken in times.items():
            for layer, forward in zip(model.decoder_layers(), forwards.get(name, forwards["modules"]), strict=True):
                layer.forward = forward
            before = time.perf_counter()
            # Asking for a backend by name leaves the compiled step out; this one is what is chosen anyway.
            with use(**({} if name == "compiled step" else {"experts": "grouped"})):
                model.extend(tokens_T, cache, sequences)
            taken.append(time.perf_counter() - before)
        if turn == 0:
            found["seconds until torch.compile is done"] = time.perf_counter() - start
    for layer, forward in zip(model.decoder_layers(), forwards["modules"], strict=True):
        layer.forward = forward
    return found | {name: 1000 * statistics.median(taken[5:]) for name, taken in times.items()}


def bench_overhead(model: Decoder, tokenizer: Tokenizer) -> dict[str, float]:
    """16 choices decode 100 tokens each behind prompts of 300, sampled with top_p."""
    engine, text = Engine(model, tokenizer=tokenizer, config=EngineConfig(max_num_seqs=16)), text_tokens(tokenizer)
    params = SamplingParams(max_tokens=110, temperature=0.8, top_p=0.95, seed=1, ignore_eos=True)
    for n in range(16):
        engine.add(text[300 * n : 300 * n + 300], params)
    while engine.stats().generated_tokens < 16 * 8:
        engine.step()
    before = engine.stats()
    for _ in range(100):
        engine.step()
    after = engine.stats()
    step, decoder, sampler = (
        (getattr(after, name) - getattr(before, name)) * 10
        for name in ("step_seconds", "model_seconds", "sample_seconds")
    )
    return {
        "step_ms": step, "decoder_ms": decoder, "sampler_ms": sampler, "overhead": (step - decoder - sampler) / step,
        "overhead_with_sampler": (step - decoder) / step, "tokens_per_second": 16_000 / step,
    }  # fmt: skip


def show(name: str, value: object, indent: str = "") -> None:
    """Print a result as an outline."""
    if isinstance(value, dict):
        print(f"{indent}{name}")
        for key, inner in value.items():
            show(str(key), inner, indent + "  ")
    else:
        print(f"{indent}{name}: {value:.3g}" if isinstance(value, float) else f"{indent}{name}: {value}")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("requests", "continuous", "prefix", "drafts", "overhead", "deterministic", "compile")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--model", default="nano", help="a bundled model or a Hugging Face folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="prompts of the prefix part")
    parser.add_argument("--learn", type=float, default=60, help="seconds at most to learn the text for drafts")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, load {os.getloadavg()[0]:.1f} before the start")
    folder = resolve(options.model)
    model, tokenizer = load(folder).eval(), Tokenizer.load(folder)
    calls: dict[str, Callable[[], dict[Any, Any]]] = {
        "requests": lambda: bench_requests(model, tokenizer, folder),
        "continuous": lambda: bench_continuous(tokenizer, folder),
        "prefix": lambda: bench_prefix(model, tokenizer, options.repeats),
        "drafts": lambda: bench_drafts(model, tokenizer, options.learn),
        "overhead": lambda: bench_overhead(model, tokenizer),
        "deterministic": lambda: bench_deterministic(model, tokenizer),
        "compile": lambda: bench_compile(model, tokenizer),
    }
    results = {}
    for part in options.parts:
        results[part] = calls[part]()
        show(part, results[part])
    if options.json:
        options.json.write_text(json.dumps({"provenance": provenance(), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
