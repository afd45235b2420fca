"""Training step: Godwit against Transformers on bench-nano, same weights, one interleaved run.

    python benchmarks/bench_train.py                # medians of both, ratio, peak memory, where the time goes
    python benchmarks/bench_train.py --json out.json

bench-nano is `glm_moe_dsa` (DESIGN section 6): 8 layers, 10.7M parameters, index_topk 256, float32. A step is forward,
backward and fused AdamW on the language-model loss alone, for both sides; Transformers runs its faster attention
(sdpa) with the experts' grouped product. Peak memory is each side's own process: high-water mark during steps less
what was resident before the first one.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from bench_nano import BENCH_NANO  # pyrefly: ignore[missing-import]
from peak import peak_bytes  # pyrefly: ignore[missing-import]

from godwit.base.machine import provenance
from godwit.models.families import config_from_hf
from godwit.models.init import empty
from godwit.nn.context import AttnContext
from godwit.train.cross_entropy import chunked_cross_entropy

SHAPES = ((1, 2048), (4, 512))
Step = Callable[[torch.Tensor], float]


def transformers_step() -> tuple[Step, dict[str, torch.Tensor]]:
    """A training step in Transformers, and its weights."""
    import transformers

    raw = dict(BENCH_NANO)
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(raw.pop("model_type"), **raw)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(tokens_BL: torch.Tensor) -> float:
        loss = model(input_ids=tokens_BL, labels=tokens_BL, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step, {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("inv_freq")}


def godwit_step(state: dict[str, torch.Tensor] | None) -> Step:
    """The same step here."""
    model = empty(config_from_hf(BENCH_NANO), dtype=torch.float32, device="cpu").train()
    weights = transformers_step()[1] if state is None else state
    model.load_state_dict(weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(tokens_BL: torch.Tensor) -> float:
        rows, length = tokens_BL.shape
        context = AttnContext((length,) * rows, tokens_BL.device)
        features = model.features(tokens_BL.flatten(), context)
        labels_T = F.pad(tokens_BL[:, 1:], (0, 1), value=-100).flatten()
        loss = chunked_cross_entropy(
            [features.hidden_TD],
            model.lm_head_weight,
            (labels_T,),
            scales_H=(1 / (rows * (length - 1)),),
            chunk_tokens=2048,
        ).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def interleaved(steps: dict[str, Step], shape: tuple[int, int], rounds: int) -> tuple[dict[str, list[float]], float]:
    """Seconds of every step of every side, taken in turn, and the largest difference of their first losses."""
    tokens_BL = torch.randint(0, BENCH_NANO["vocab_size"], shape, generator=torch.Generator().manual_seed(1))
    first = [step(tokens_BL) for step in steps.values()]
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step(tokens_BL)
            seconds[name].append(time.perf_counter() - start)
    return seconds, max(first) - min(first)


def peak_memory(side: str, shape: tuple[int, int], threads: int) -> int:
    """Bytes a side needs on top of its resident model, optimiser states included, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_memory, (side, shape, threads))


def _measure_memory(side: str, shape: tuple[int, int], threads: int) -> int:
    torch.set_num_threads(threads)
    step = transformers_step()[0] if side == "transformers" else godwit_step(None)
    tokens_BL = torch.randint(0, BENCH_NANO["vocab_size"], shape)
    return peak_bytes(lambda: [step(tokens_BL) for _ in range(3)])


def profile(step: Step, shape: tuple[int, int]) -> list[tuple[str, float]]:
    """The operators that take the most time of their own, in per cent of a step."""
    tokens_BL = torch.randint(0, BENCH_NANO["vocab_size"], shape)
    with torch.profiler.profile() as recorded:
        step(tokens_BL)
    events = sorted(recorded.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return [(event.key, 100 * event.self_cpu_time_total / total) for event in events[:12]]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="steps of each side that are timed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    theirs, state = transformers_step()
    steps = {"transformers": theirs, "godwit": godwit_step(state)}
    results = []
    for shape in SHAPES:
        seconds, gap = interleaved(steps, shape, options.rounds)
        rate = {name: shape[0] * shape[1] / statistics.median(times) for name, times in seconds.items()}
        memory = {name: peak_memory(name, shape, options.threads) for name in steps}
        results.append({"rows": shape[0], "length": shape[1], "tokens_per_second": rate, "peak_bytes": memory})
        print(f"{shape[0]} x {shape[1]} tokens (first losses differ by {gap:.1e})")
        for name in steps:
            print(f"  {name:<13} {rate[name]:7.0f} tokens/s   {memory[name] / 1e6:6.0f} MB")
        print(f"  ratio         {rate['godwit'] / rate['transformers']:7.2f} x")
    print("Where a step of 1 x 2,048 goes here:")
    for name, share in profile(steps["godwit"], SHAPES[0]):
        print(f"  {share:5.1f} %  {name}")
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": provenance(), "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
