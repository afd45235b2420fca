"""Sparse-attention operations on a GPU at GLM-5's head shapes, against their floors and against dense attention.

    python benchmarks/bench_gpu.py                                   # 8,192 to 131,072 tokens, all operations
    python benchmarks/bench_gpu.py --lengths 8192 --work index_topk sparse_mla --json out.json

First each operation's Triton backend is compared with its reference at a small size; a difference ends the run. Floors
are operations over the rate of a bfloat16 matrix product measured here, or bytes over the bandwidth of a copy measured
here, whichever is more. The dense sides, scaled_dot_product_attention and FlexAttention, do causal attention of the
same heads, expanded (64 heads of 256), which sparse attention replaces. Times are medians of `--rounds` runs. Needs a
CUDA device: without one it says so and exits with 3.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from godwit.base.machine import provenance
from godwit.ops import index_topk, indexer_kl, sample_attention, sparse_attention, sparse_mla
from godwit.ops.backends import use
from godwit.ops.context import AttnContext

NO_GPU = 3
DEVICE = "cuda"
# Documents of the comparison with the references, and positions each query selects.
CHECKED, CHECKED_TOPK = (600, 100), 64
HEADS, LATENT, ROPE, WIDTH, INDEX_HEADS, INDEX_WIDTH, TOPK = 64, 512, 64, 256, 32, 128, 2048
# GLM-4.5's grouped heads.
GROUPED_HEADS, GROUPS, GROUPED_WIDTH = 96, 8, 128
DECODING = 64  # sequences that decode together
MAX_TRAINED = 32_768  # longer backward passes and losses take minutes and say nothing new
WARM_UP = 2
STRIPES, WINDOW = 0.05, 0.08


class Work(NamedTuple):
    """One row of the table: something to run, and what it must at least do."""

    name: str
    run: Callable[[], object]
    operations: float
    num_bytes: float


def randn(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Random numbers on the GPU."""
    return torch.randn(*shape, dtype=dtype, device=DEVICE)


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Median of the device's own clock."""
    found = []
    for turn in range(WARM_UP + rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        if turn >= WARM_UP:
            found.append(start.elapsed_time(end) / 1000)
    return statistics.median(found)


def selection(total: int, topk: int) -> Tensor:
    """Random positions at or before each query, ascending, -1 behind them; every row's own."""
    position_T1 = torch.arange(total, device=DEVICE).unsqueeze(1)
    count_T1 = (position_T1 + 1).clamp(max=topk)
    slot_K = torch.arange(topk, device=DEVICE)
    # One from each of equal strides: distinct and in order.
    low_TK, high_TK = (position_T1 + 1) * slot_K // count_T1, (position_T1 + 1) * (slot_K + 1) // count_T1
    chosen_TK = low_TK + (torch.rand(total, topk, device=DEVICE) * (high_TK - low_TK)).long()
    return torch.where(slot_K < count_T1, chosen_TK, -1).int()


def select_work(length: int) -> Iterator[Work]:
    """index_topk of a whole document, and of one token each of many."""
    pairs = length * (length + 1) / 2
    q, k, w = randn(length, INDEX_HEADS, INDEX_WIDTH), randn(length, INDEX_WIDTH), randn(length, INDEX_HEADS)
    context = AttnContext.single(length, DEVICE)
    run = lambda: index_topk.index_topk(q, k, w, context, topk=TOPK)  # noqa: E731
    yield Work("index_topk prefill", run, pairs * INDEX_HEADS * INDEX_WIDTH * 2, length * INDEX_WIDTH * 2)
    many = max(1, min(DECODING, (1 << 22) // length))
    keys, several = randn(many * length, INDEX_WIDTH), AttnContext((length,) * many, torch.device(DEVICE))
    asked = {"topk": TOPK, "query_seqlens": (1,) * many}
    run = lambda: index_topk.index_topk(q[:many], keys, w[:many], several, **asked)  # noqa: E731
    yield Work(f"index_topk decode x {many}", run, 0, keys.numel() * 2)


def latent_work(length: int) -> Iterator[Work]:
    """sparse_mla of a whole document, its training step, and one token each of many."""
    pairs = sum(min(t + 1, TOPK) for t in range(length))
    q, c, index_TK = randn(length, HEADS, LATENT + ROPE), randn(length, LATENT + ROPE), selection(length, TOPK)
    asked = {"scale": WIDTH**-0.5, "latent_width": LATENT}
    operations = pairs * HEADS * 2 * (2 * LATENT + ROPE)
    yield Work("sparse_mla prefill", lambda: sparse_mla.sparse_mla(q, c, index_TK, **asked), operations, q.numel() * 4)
    last = slice(length - DECODING, length)
    run = lambda: sparse_mla.sparse_mla(q[last], c, index_TK[last], **asked)  # noqa: E731
    yield Work(f"sparse_mla decode x {DECODING}", run, 0, DECODING * TOPK * (LATENT + ROPE) * 2)
    if length <= MAX_TRAINED:
        q.requires_grad_(), c.requires_grad_()
        run = lambda: sparse_mla.sparse_mla(q, c, index_TK, **asked).out_QHC.sum().backward()  # noqa: E731
        yield Work("sparse_mla step", run, operations * 3.5, q.numel() * 4)


def dense_work(length: int) -> Iterator[Work]:
    """What sparse attention replaces."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    q, k, v = (randn(1, HEADS, length, WIDTH) for _ in range(3))
    operations = length * (length + 1) / 2 * HEADS * 4 * WIDTH
    run = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)  # noqa: E731
    yield Work("dense: scaled_dot_product_attention", run, operations, q.numel() * 8)
    mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, length, length, device=DEVICE)
    compiled = torch.compile(flex_attention)
    yield Work("dense: FlexAttention", lambda: compiled(q, k, v, block_mask=mask), operations, q.numel() * 8)


def grouped_work(length: int) -> Iterator[Work]:
    """sparse_attention and sample_attention with grouped heads."""
    q, k, v = (randn(length, heads, GROUPED_WIDTH) for heads in (GROUPED_HEADS, GROUPS, GROUPS))
    context, index_TK = AttnContext.single(length, DEVICE), selection(length, TOPK)
    scale, each = GROUPED_WIDTH**-0.5, GROUPED_HEADS * 4 * GROUPED_WIDTH
    run = lambda: sparse_attention.sparse_attention(q, k, v, index_TK, context, scale=scale)  # noqa: E731
    pairs = sum(min(t + 1, TOPK) for t in range(length))
    yield Work("sparse_attention prefill", run, pairs * each, q.numel() * 4)
    keep_TH = torch.rand(length, GROUPED_HEADS, device=DEVICE) < STRIPES
    stripes = sample_attention.Stripes(keep_TH, (int(WINDOW * length),))
    run = lambda: sample_attention.stripe_attention(q, k, v, stripes, context, scale=scale)  # noqa: E731
    computed = float(stripes.entries_SH(context).sum()) / GROUPED_HEADS
    yield Work("sample_attention prefill", run, computed * each, q.numel() * 4)


def loss_work(length: int) -> Iterator[Work]:
    """indexer_kl with gradients, against one layer's attention: all positions, then selected ones (absorbed heads)."""
    if length > MAX_TRAINED:
        return
    q, k, w = randn(length, INDEX_HEADS, INDEX_WIDTH), randn(length, INDEX_WIDTH), randn(length, INDEX_HEADS)
    for tensor in (q, k, w):
        tensor.requires_grad_()
    context, own = AttnContext.single(length, DEVICE), INDEX_HEADS * INDEX_WIDTH * 2 * 5
    every = indexer_kl.Teacher(randn(length, HEADS, WIDTH), randn(length, HEADS, WIDTH), WIDTH**-0.5)
    run = lambda: indexer_kl.indexer_kl([every], q, k, w, context).loss.backward()  # noqa: E731
    pairs = length * (length + 1) / 2
    yield Work("indexer_kl all", run, pairs * (HEADS * WIDTH * 4 + own), 0)
    absorbed = indexer_kl.Teacher(randn(length, HEADS, LATENT + ROPE), randn(length, 1, LATENT + ROPE), WIDTH**-0.5)
    index_TK = selection(length, TOPK)
    run = lambda: indexer_kl.indexer_kl([absorbed], q, k, w, context, index_TK=index_TK).loss.backward()  # noqa: E731
    chosen = sum(min(t + 1, TOPK) for t in range(length))
    yield Work("indexer_kl selected", run, chosen * (HEADS * (LATENT + ROPE) * 4 + own), 0)


WORK = {
    "index_topk": select_work,
    "sparse_mla": latent_work,
    "dense": dense_work,
    "grouped": grouped_work,
    "indexer_kl": loss_work,
}


def check() -> None:
    """The Triton backends against their references on this device, in float32 and bfloat16.

    Raises:
        AssertionError: when one differs.
    """
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 3e-2)):
        inputs = [randn(sum(CHECKED), *shape, dtype=dtype) for shape in CHECKED_SHAPES]
        # Eighths have exact scores, so that the selections must be equal.
        inputs[:3] = [(x * 8).round().div(8) for x in inputs[:3]]
        kept_TH = torch.rand(sum(CHECKED), 16, device=DEVICE) < STRIPES
        got, expected = (outcomes(name, inputs, kept_TH) for name in ("triton", "reference"))
        assert torch.equal(got[0], expected[0]), f"index_topk in {dtype} selects other positions than its reference"
        for one, other in zip(got, expected, strict=True):
            bound = tolerance * max(1.0, float(other.float().abs().max()))
            torch.testing.assert_close(one.float(), other.float(), atol=bound, rtol=tolerance)


# Of the index queries, keys and weights; latent queries and rows; grouped queries, keys and values.
CHECKED_SHAPES = ((32, 16), (16,), (32,), (16, 80), (80,), (16, 64), (4, 64), (4, 64))


def outcomes(backend: str, inputs: list[Tensor], kept_TH: Tensor) -> list[Tensor]:
    """Results and gradients of every operation on one backend."""
    context = AttnContext(CHECKED, torch.device(DEVICE))
    leaves = [x.clone().requires_grad_() for x in inputs]
    index_q, index_k, index_w, latent_q, latent_c, q, k, v = leaves
    stripes = sample_attention.Stripes(kept_TH, (50, 8))
    every = ("index_topk", "sparse_mla", "sparse_attention", "sample_attention", "indexer_kl")
    with use(**dict.fromkeys(every, backend)):
        index_TK = index_topk.index_topk(index_q, index_k, index_w, context, topk=CHECKED_TOPK)
        latent = sparse_mla.sparse_mla(latent_q, latent_c, index_TK, scale=0.1, latent_width=64)
        sparse = sparse_attention.sparse_attention(q, k, v, index_TK, context, scale=0.1).out_THE
        sampled = sample_attention.stripe_attention(q, k, v, stripes, context, scale=0.1)
        teacher = indexer_kl.Teacher(q, k, 0.1)
        losses = [
            indexer_kl.indexer_kl([teacher], index_q, index_k, index_w, context, index_TK=chosen_TK).loss
            for chosen_TK in (None, index_TK)
        ]
        total = torch.stack([x.float().sum() for x in (*latent, sparse, sampled, *losses)]).sum()
        return [index_TK, *latent, sparse, sampled, *losses, *torch.autograd.grad(total, leaves)]


class Floors(NamedTuple):
    """What this device was seen to do."""

    operations_a_second: float
    bytes_a_second: float

    @classmethod
    def measured(cls, rounds: int) -> "Floors":
        """A large matrix product in bfloat16, and a copy of 2 GB."""
        a, b = randn(8192, 8192), randn(8192, 8192)
        x = torch.empty(1 << 30, dtype=torch.int8, device=DEVICE)
        y = torch.empty_like(x)
        return cls(2 * 8192**3 / seconds(lambda: a @ b, rounds), 2 * x.numel() / seconds(lambda: y.copy_(x), rounds))

    def of(self, work: Work) -> float:
        """Seconds that it takes at least."""
        return max(work.operations / self.operations_a_second, work.num_bytes / self.bytes_a_second)


def main() -> int:
    """Check, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 16_384, 32_768, 65_536, 131_072])
    parser.add_argument("--work", nargs="+", choices=[*WORK], default=[*WORK])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench_gpu needs a CUDA device and there is none here; run it on a machine with one", file=sys.stderr)
        return NO_GPU
    torch.manual_seed(0)
    check()
    floors, machine, results = Floors.measured(options.rounds), provenance(), []
    print(
        f"{torch.cuda.get_device_name()}, {machine['date']}, torch {torch.__version__}; outputs equal the references'"
    )
    print(f"measured: {floors.operations_a_second / 1e12:.0f} TFLOP/s, {floors.bytes_a_second / 1e12:.2f} TB/s")
    print(f"{'':<38}{'tokens':>8}{'ms':>11}{'floor ms':>11}{'of floor':>10}{'MB':>8}")
    for length in options.lengths:
        for group in options.work:
            for work in WORK[group](length):
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                spent, floor = seconds(work.run, options.rounds), floors.of(work)
                peak = torch.cuda.max_memory_allocated() - before
                results.append(
                    {"work": work.name, "length": length, "seconds": spent, "floor": floor, "peak_bytes": peak}
                )
                print(
                    f"{work.name:<38}{length:>8}{spent * 1e3:>11.3f}{floor * 1e3:>11.3f}{floor / spent:>10.0%}"
                    f"{peak / 1e6:>8.0f}",
                    flush=True,
                )
            torch.cuda.empty_cache()
    if options.json is not None:
        record = {"device": torch.cuda.get_device_name(), "machine": machine, "measured": floors._asdict()}
        options.json.write_text(json.dumps({**record, "results": results}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
