"""Many requests at once: Godwit's engine against Transformers, one by one, in batches, and its continuous batching.

Parts `requests` and `continuous` of `bench_engine.py`, and what its other parts share with them.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import godwit
from godwit.engine.config import EngineConfig
from godwit.engine.engine import Engine
from godwit.engine.params import SamplingParams
from godwit.models.decoder import Decoder
from godwit.models.families import config_from_hf
from godwit.models.init import build
from godwit.text.tokenizer import Tokenizer

NUM_REQUESTS, QUARTERS, STATIC = 32, 4, 8
# Grouped queries, which `generate_batch` takes; else nano's sizes (its layers are all dense). Weights wide enough for
# greedy choices that rounding does not decide.
GROUPED: dict[str, Any] = {
    "model_type": "glm4_moe", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 12,
    "first_k_dense_replace": 12, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "partial_rotary_factor": 0.5, "use_qk_norm": True, "max_position_embeddings": 16_384, "initializer_range": 0.2,
    "num_nextn_predict_layers": 0, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
}  # fmt: skip
# How `generate_batch` is run: its own pages, and what was fastest on a CPU of pages of 16 to 256 tokens, steps of 128
# to 2,048, both schedulers, `paged|eager`, no shared blocks, compiled. Asynchronous batching refuses a CPU.
SHORT: dict[str, Any] = {"page_size": 32, "num_blocks": 800}
PAGES: dict[str, tuple[dict[str, Any], bool]] = {
    "pages of 256": ({"num_blocks": 200, "max_batch_tokens": 2048}, False),
    "pages of 32, steps of 512": (SHORT | {"max_batch_tokens": 512}, False),
    "pages of 32, steps of 384, fused groups": (SHORT | {"max_batch_tokens": 384}, True),
    "pages of 32, steps of 512, fused groups": (SHORT | {"max_batch_tokens": 512}, True),
}

Request = tuple[list[int], int]


def text_tokens(tokenizer: Tokenizer) -> list[int]:
    """Source code that comes with Python."""
    return tokenizer.encode(Path(statistics.__file__).read_text(encoding="utf-8"))


def requests(tokenizer: Tokenizer) -> list[Request]:
    """Prompts of four shared beginnings of 300 tokens and tails of 10 to 100; 16 to 46 new tokens."""
    text = text_tokens(tokenizer)
    heads = [text[1000 * n : 1000 * n + 300] for n in range(4)]
    tails = [text[5000 + 100 * n : 5000 + 100 * n + 10 + 37 * n % 91] for n in range(NUM_REQUESTS)]
    return [(heads[n % 4] + tails[n], 16 + 13 * n % 31) for n in range(NUM_REQUESTS)]


def serve(model: Decoder, tokenizer: Tokenizer, many: list[Request], *, deterministic: bool = False) -> dict[str, Any]:
    """All through a fresh engine: seconds, first-token times, texts."""
    config = EngineConfig(max_num_seqs=NUM_REQUESTS, deterministic=deterministic)
    engine = Engine(model, tokenizer=tokenizer, config=config)
    start, first, texts = time.perf_counter(), {}, {}
    for prompt, count in many:
        name = engine.add(prompt, SamplingParams(max_tokens=count, temperature=0, ignore_eos=True))
        texts[name] = []
    while engine.has_work:
        for delta in engine.step():
            first.setdefault(delta.request_id, time.perf_counter() - start)
            texts[delta.request_id] += delta.token_ids
    stats = engine.stats()
    hits = stats.prefix_hit_tokens / stats.prefix_query_tokens
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "first": list(first.values()), "texts": list(texts.values()), "hits": hits}


class FirstToken:
    """A Transformers streamer that notes when the first new token came."""

    def __init__(self) -> None:
        self.calls, self.at = 0, 0.0

    def put(self, value: object) -> None:
        """The prompt, then tokens."""
        self.calls += 1
        if self.calls == 2:
            self.at = time.perf_counter()

    def end(self) -> None:
        """Nothing to do."""


def one_by_one(theirs: Any, many: list[Request]) -> dict[str, Any]:
    """`generate` for each; first-token times from when all arrived."""
    start, first, texts = time.perf_counter(), [], []
    for prompt, count in many:
        streamer = FirstToken()
        ids = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0,
            streamer=streamer,
        )  # fmt: skip
        first.append(streamer.at - start)
        texts.append(ids[0, len(prompt) :].tolist())
    return {"seconds": time.perf_counter() - start, "first": first, "texts": texts}


def static(theirs: Any, many: list[Request]) -> dict[str, Any]:
    """`generate` over left-padded batches; all wait for the longest, and only tokens that were asked for count."""
    start, first, texts = time.perf_counter(), [], []
    for place in range(0, len(many), STATIC):
        group = many[place : place + STATIC]
        longest = max(len(prompt) for prompt, _ in group)
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt, _ in group])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt, _ in group])
        out = theirs.generate(
            ids, attention_mask=mask, max_new_tokens=max(count for _, count in group), do_sample=False,
            eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        texts += [row[longest : longest + count].tolist() for row, (_, count) in zip(out, group)]
        first += [time.perf_counter() - start] * len(group)
    return {"seconds": time.perf_counter() - start, "first": first, "texts": texts}


def bench_requests(model: Decoder, tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    """Sides in turn by quarters; ours does all 32 each time."""
    import transformers

    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    many, found = requests(tokenizer), {}
    try:
        theirs.generate_batch(inputs=[many[0][0]], progress_bar=False)
        found["generate_batch"] = "runs now: compare with it"
    except ValueError as error:
        found["generate_batch"] = f"refused: {error}"
    # What is compiled or imported at first use is nobody's time.
    serve(model, tokenizer, many[:4])
    one_by_one(theirs, [(many[0][0], 2)])
    ours, sides = [], {"one by one": (one_by_one, []), f"batches of {STATIC}": (static, [])}
    size = NUM_REQUESTS // QUARTERS
    for quarter in range(QUARTERS):
        ours.append(serve(model, tokenizer, many))
        for function, results in sides.values():
            results.append(function(theirs, many[quarter * size : (quarter + 1) * size]))
    tokens = sum(count for _, count in many)
    seconds = statistics.median(one["seconds"] for one in ours)
    found["godwit"] = {
        "tokens_per_second": tokens / seconds, "first_95": percentile(ours[0]["first"]), "prefix_hits": ours[0]["hits"]
    }  # fmt: skip
    for name, (_, results) in sides.items():
        elapsed, first = 0.0, []
        for one in results:
            first += [elapsed + at for at in one["first"]]
            elapsed += one["seconds"]
        texts = [text for one in results for text in one["texts"]]
        same = sum(a == b for a, b in zip(texts, ours[0]["texts"], strict=True))
        found[name] = {
            "tokens_per_second": tokens / elapsed, "first_95": percentile(first), "ratio": elapsed / seconds,
            "same_texts": same,
        }  # fmt: skip
    return found


def percentile(values: list[float]) -> float:
    """The 95th."""
    return sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]


def generate_batch(theirs: Any, many: list[Request], settings: dict[str, Any], *, fused: bool) -> dict[str, Any]:
    """Continuous batching as `generate_batch` does it, with a length for each request; its start does not count.

    Args:
        settings: of its `ContinuousBatchingConfig`.
        fused: let PyTorch's attention share keys among query heads, which it does on a CPU only if told so.
    """
    import transformers

    greedy = transformers.GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=64)
    config = transformers.ContinuousBatchingConfig(**settings)
    with (
        mock.patch.dict(os.environ, {"TRANSFORMERS_SDPA_FORCE_GQA": str(int(fused))}),
        theirs.continuous_batching_context_manager(
            generation_config=greedy, continuous_batching_config=config
        ) as manager,
    ):
        start, done = time.perf_counter(), {}
        names = [
            manager.add_request(prompt, max_new_tokens=count, eos_token_id=-1, record_timestamps=True)
            for prompt, count in many
        ]
        while len(done) < len(many):
            result = manager.get_result(timeout=1)
            if result is not None and result.is_finished():
                done[result.request_id] = result
            assert result is not None or manager.is_running(), "its thread has ended"
        seconds = time.perf_counter() - start
    outputs = [done[name] for name in names]
    first = [output.timestamps[0] - start for output in outputs]
    return {"seconds": seconds, "first": first, "texts": [output.generated_tokens for output in outputs]}


def bench_continuous(tokenizer: Tokenizer, tokenizer_folder: Path) -> dict[str, Any]:
    """A random model of `GROUPED`, saved once and loaded by both; all requests each time, sides in turn, medians."""
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        model = build(config_from_hf(GROUPED | {"vocab_size": tokenizer.vocab_size}), seed=0)
        godwit.save(model, model.config, folder, tokenizer_folder=tokenizer_folder)
        ours = godwit.load(folder).eval()
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    many, results = requests(tokenizer), {name: [] for name in ("godwit", *PAGES)}
    for turn in range(-1, QUARTERS):
        # What is compiled or imported at first use is nobody's time.
        asked = many if turn >= 0 else many[:4]
        found = {"godwit": serve(ours, tokenizer, asked)}
        for name, (settings, fused) in PAGES.items():
            found[name] = generate_batch(theirs, asked, settings, fused=fused)
        if turn >= 0:
            for name, one in found.items():
                results[name].append(one)
    tokens = sum(count for _, count in many)
    expected = [token for text in results["godwit"][0]["texts"] for token in text]
    seconds = {name: statistics.median(one["seconds"] for one in runs) for name, runs in results.items()}
    return {
        name: {
            "tokens_per_second": tokens / seconds[name],
            "first_95": statistics.median(percentile(one["first"]) for one in runs),
            "godwit_is_faster": seconds[name] / seconds["godwit"],
            "equal_tokens": sum(
                a == b
                for a, b in zip((token for text in runs[0]["texts"] for token in text), expected, strict=True)
            ) / tokens,
        }
        for name, runs in results.items()
    }  # fmt: skip
