"""The Triton backends beyond the parity matrix, under the interpreter: gradients, chunks, determinism, refusals."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.ops import _attend, _gpu, index_topk, indexer_kl, sample_attention, sparse_attention, sparse_mla
from godwit.ops.backends import use
from godwit.ops.context import AttnContext

pytest.importorskip("triton")
CPU = torch.device("cpu")
OPS = {
    "index_topk": index_topk._OP,
    "indexer_kl": indexer_kl._OP,
    "sample_attention": sample_attention._OP,
    "sparse_attention": sparse_attention._OP,
    "sparse_mla": sparse_mla._OP,
}


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def selection(total: int, topk: int) -> torch.Tensor:
    """Other positions in every row, some rows short."""
    rows = [
        torch.randperm(t + 1, generator=torch.Generator().manual_seed(t))[:topk].sort().values for t in range(total)
    ]
    return torch.stack([torch.nn.functional.pad(row, (0, topk - len(row)), value=-1) for row in rows]).int()


def latent(kind: torch.dtype, backend: str) -> list[torch.Tensor]:
    """Both results and their gradients, 10 queries that select 6 rows; heads and widths of no round size."""
    leaves = [x.to(kind).requires_grad_() for x in (randn(10, 3, 25, seed=0), randn(10, 25, seed=1))]
    with use(sparse_mla=backend):
        found = sparse_mla.sparse_mla(*leaves, selection(10, 6), scale=0.3, latent_width=21)
    weighted = [(x * randn(*x.shape, seed=2).to(kind)).sum() for x in found]
    return [*found, *torch.autograd.grad(sum(weighted), leaves)]


def test_latent_attention_has_the_gradients_of_both_results_in_any_chunks(monkeypatch) -> None:
    expected, whole = latent(torch.float64, "reference"), latent(torch.float32, "triton")
    for got, want in zip(whole, expected, strict=True):
        torch.testing.assert_close(got.double(), want, atol=1e-5, rtol=1e-4)
    # Three queries at a time: the same additions in the same order.
    monkeypatch.setattr(_attend, "WORKSPACE", 3 * 6 * 25)
    assert all(torch.equal(one, other) for one, other in zip(latent(torch.float32, "triton"), whole, strict=True))


def test_selection_by_single_queries_and_small_workspaces_is_that_of_the_whole(monkeypatch) -> None:
    q, k, w = (randn(*shape, seed=n).float() for n, shape in enumerate([(15, 5, 12), (15, 12), (15, 5)]))
    context = AttnContext((11, 0, 4), CPU)
    with use(index_topk="reference"):
        expected_TK = index_topk.index_topk(q, k, w, context, topk=6)
    monkeypatch.setattr(OPS["index_topk"].room.load("triton"), "WORKSPACE", 40)
    last = torch.tensor([9, 10, 14])
    with use(index_topk="triton"):
        assert torch.equal(index_topk.index_topk(q, k, w, context, topk=6), expected_TK)
        got = index_topk.index_topk(q[last], k, w[last], context, topk=6, query_seqlens=(2, 0, 1))
    assert torch.equal(got, expected_TK[last])


@pytest.mark.parametrize(("topk", "form", "measured"), [(None, "mean", True), (5, "multi", False)])
def test_the_indexers_loss_and_gradients(topk: int | None, form: str, measured: bool, monkeypatch) -> None:
    context, index_TK = AttnContext((3, 0, 7), CPU), None if topk is None else selection(10, topk)
    if index_TK is not None:
        index_TK[3:] = torch.where(index_TK[3:] >= 0, index_TK[3:].clamp(min=3), -1)
        index_TK = torch.stack([unique(row) for row in index_TK])
    measure_TK = torch.arange(10).int().unsqueeze(1) if measured else None
    shapes = [(10, 3, 12), (10, 12), (10, 3)]
    # A latent teacher of uneven width whose heads share keys, and a grouped one.
    teachers = [
        (randn(10, 4, 21, seed=3), randn(10, 1, 21, seed=4)),
        (randn(10, 4, 8, seed=5), randn(10, 2, 8, seed=6)),
    ]
    monkeypatch.setattr(OPS["indexer_kl"].room.load("triton"), "WORKSPACE", 300)
    results = []
    for backend, kind in (("reference", torch.float64), ("triton", torch.float32)):
        leaves = [randn(*shape, seed=n).to(kind).requires_grad_() for n, shape in enumerate(shapes)]
        teaching = [indexer_kl.Teacher(q.to(kind), k.to(kind), 0.4) for q, k in teachers]
        with use(indexer_kl=backend):
            found = indexer_kl.indexer_kl(
                teaching, *leaves, context, index_TK=index_TK, form=form, measure_TK=measure_TK
            )  # fmt: skip
        extra = [found.mass_T] if measured else []
        results.append([found.loss, found.kl_T, *extra, *torch.autograd.grad(found.loss * 0.7, leaves)])
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got.double(), want, atol=1e-5, rtol=1e-4)


def unique(row_K: torch.Tensor) -> torch.Tensor:
    """Each position once, -1 behind them."""
    found = row_K[row_K >= 0].unique()
    return torch.nn.functional.pad(found, (0, row_K.numel() - found.numel()), value=-1)


def call(op: str, **given) -> object:
    """One operation on small tensors of a dtype and device, or of other widths; through its automatic choice."""
    dtype, device = given.get("dtype", torch.float32), given.get("device", "cpu")
    heads, width, index_heads = given.get("heads", 2), given.get("width", 8), given.get("index_heads", 2)
    new = lambda *shape: torch.zeros(*shape, dtype=dtype, device=device)  # noqa: E731
    context, index_TK = AttnContext((3,), torch.device(device)), torch.zeros(3, 1, dtype=torch.int32, device=device)
    student = (new(3, index_heads, 8), new(3, 8), new(3, index_heads))
    grouped = (new(3, heads, width), new(3, 1, width), new(3, 1, width))
    backend = OPS[op].room.load("triton")
    if op == "index_topk":
        return backend.why_not(*student, context, topk=2)
    if op == "indexer_kl":
        teachers = (indexer_kl.Teacher(*grouped[:2], 1.0),)
        return backend.why_not(teachers, *student, context, index_TK=None, form="multi", measure_TK=None)
    if op == "sparse_mla":
        return backend.why_not(new(3, heads, width), new(3, width), index_TK, scale=1.0, latent_width=width)
    if op == "sparse_attention":
        return backend.why_not(*grouped, index_TK, context, scale=1.0)
    return backend.why_not(*grouped, sample_attention.Stripes(index_TK > 0, (1,)), context, scale=1.0)


def reasons(monkeypatch) -> list[tuple[str, str]]:
    """(operation, reason) of every refusal there is."""
    found: list[tuple[str, object]] = []
    for op in OPS:
        found += [(op, call(op)), (op, call(op, device="meta"))]
        with use(**{op: "triton"}):
            found += [(op, call(op, dtype=kind)) for kind in (torch.float64, torch.bfloat16)]
            found += [(op, call(op, width=2000)), (op, call(op, index_heads=200))]
            with monkeypatch.context() as patch:
                patch.setattr("triton.knobs.runtime.interpret", False)
                found.append((op, call(op)))
                patch.setattr(importlib.util, "find_spec", lambda name: None)
                found.append((op, call(op)))
            assert call(op) is None
    return [(op, reason) for op, reason in found if isinstance(reason, str)]


def test_every_refusal_is_reached_and_readable(monkeypatch) -> None:
    found = reasons(monkeypatch)
    for op, reason in found:
        assert 10 < len(reason) < 160 and "\n" not in reason and not reason.endswith("."), (op, reason)
    sources = {op: [Path(backend.room.folder) / "triton.py", Path(_gpu.__file__)] for op, backend in OPS.items()}
    for op, paths in sources.items():
        for path in paths:
            for pattern in refusals(path):
                assert any(o == op and re.fullmatch(pattern, reason) for o, reason in found), (path.name, op, pattern)


def refusals(path: Path) -> list[str]:
    """What the file's `why_not` returns, as patterns."""
    function = next(n for n in ast.parse(path.read_text()).body if getattr(n, "name", "") == "why_not")
    patterns = []
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            patterns.append(re.escape(node.value.value))
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.JoinedStr):
            parts = [re.escape(x.value) if isinstance(x, ast.Constant) else ".+" for x in node.value.values]
            patterns.append("".join(parts))
    return patterns


def test_a_cpu_never_takes_them_by_itself_and_an_unmet_request_is_an_error(monkeypatch) -> None:
    q, c, index = torch.zeros(2, 2, 8), torch.zeros(2, 8), torch.zeros(2, 1).int()
    monkeypatch.setattr(OPS["sparse_mla"].room.load("triton"), "run", lambda *_, **__: pytest.fail("it was chosen"))
    sparse_mla.sparse_mla(q.double(), c.double(), index, scale=1.0, latent_width=8)
    with use(sparse_mla="triton"), pytest.raises(GodwitError, match=r"'triton' cannot run here: dtype torch\.float64"):
        sparse_mla.sparse_mla(q.double(), c.double(), index, scale=1.0, latent_width=8)


def test_the_gpu_benchmark_says_that_it_needs_a_gpu() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "bench_gpu.py"
    without = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=without)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1 and "needs a CUDA device" in done.stderr
