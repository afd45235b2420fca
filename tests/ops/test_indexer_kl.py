"""The indexer's loss: identities of IndexCache's proposition 1, parity with the definition, memory."""

import itertools
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.ops import indexer_kl as package
from godwit.ops.backends import use
from godwit.ops.context import AttnContext
from godwit.ops.index_topk import index_topk
from godwit.ops.indexer_kl import Teacher, indexer_kl

LENGTHS = [(33,), (1,), (5, 0, 21, 1, 40), (300, 20)]


def randn(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def student(total: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [randn(*shape, seed=n, dtype=dtype) for n, shape in enumerate([(total, 3, 8), (total, 8), (total, 3)])]


def teachers(total: int, count: int, dtype: torch.dtype = torch.float64) -> list[Teacher]:
    """Of different head counts and widths, as layers of different kinds would have."""
    shapes = itertools.islice(itertools.cycle([(4, 2, 6), (2, 2, 10)]), count)
    return [
        Teacher(randn(total, n, e, seed=10 + i, dtype=dtype), randn(total, g, e, seed=20 + i, dtype=dtype), 0.4)
        for i, (n, g, e) in enumerate(shapes)
    ]


def selection(total: int, context: AttnContext, topk: int) -> Tensor:
    q, k, w = (randn(*shape, seed=n) for n, shape in [(31, (total, 3, 8)), (32, (total, 8)), (33, (total, 3))])
    return index_topk(q, k, w, context, topk=topk)


def with_gradients(inputs: list[Tensor], teaching: list[Teacher], context: AttnContext, **options) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    found = indexer_kl(teaching, *leaves, context, **options)
    return [found.loss.detach(), found.kl_T, *torch.autograd.grad(found.loss * 0.7, leaves)]


# Triton's is compared in test_triton.py, at sizes that its interpreter bears.
@pytest.mark.parametrize("backend", [n for n in package._OP.room.names() if n not in ("reference", "triton")])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("topk", [None, 1, 7, 1000])
@pytest.mark.parametrize(("count", "form"), [(1, "multi"), (3, "multi"), (3, "mean")])
def test_backends_agree_with_the_definition(backend: str, lengths, topk, count: int, form: str) -> None:
    total, context = sum(lengths), AttnContext(lengths, torch.device("cpu"))
    options = {"form": form, "index_TK": None if topk is None else selection(total, context, topk)}
    if backend == "compiled" and topk is None:
        with use(indexer_kl="compiled"), pytest.raises(GodwitError, match="there is nothing to gather"):
            with_gradients(student(total, torch.float32), teachers(total, count, torch.float32), context, **options)
        return
    runs = [("reference", torch.float64), (backend, torch.float32)]
    runs += [(backend, torch.float64)] if backend != "compiled" else []  # compiled is float32 only
    results = []
    for name, dtype in runs:
        with use(indexer_kl=name):
            results.append(with_gradients(student(total, dtype), teachers(total, count, dtype), context, **options))
    for expected, single, *wide in zip(*results, strict=True):
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), expected, atol=2e-4, rtol=1e-4)
        for each in wide:
            torch.testing.assert_close(each, expected, atol=1e-11, rtol=1e-10)


@pytest.mark.parametrize("numbers", [1, 2000])
@pytest.mark.parametrize("topk", [None, 7])
def test_cutting_into_blocks_changes_nothing(numbers: int, topk: int | None, monkeypatch) -> None:
    context = AttnContext((60, 3, 37), torch.device("cpu"))
    index_TK = None if topk is None else selection(100, context, topk)
    chunked = package._OP.room.load("chunked")
    whole = with_gradients(student(100), teachers(100, 2), context, index_TK=index_TK)
    monkeypatch.setattr(chunked, "BLOCK_NUMBERS", numbers)
    monkeypatch.setattr(chunked, "GATHER_BEYOND", 0)
    for got, expected in zip(with_gradients(student(100), teachers(100, 2), context, index_TK=index_TK), whole):
        torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-10)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("topk", [None, 9])
def test_both_forms_have_one_gradient_and_differ_by_the_jensen_shannon_term(backend: str, topk: int | None) -> None:
    """IndexCache (arXiv 2603.12201), proposition 1."""
    context = AttnContext((40, 17), torch.device("cpu"))
    index_TK = None if topk is None else selection(57, context, topk)
    inputs, teaching = student(57), teachers(57, 3)
    with use(indexer_kl=backend):
        multi = with_gradients(inputs, teaching, context, index_TK=index_TK, form="multi")
        mean = with_gradients(inputs, teaching, context, index_TK=index_TK, form="mean")
        ones = [with_gradients(inputs, [each], context, index_TK=index_TK) for each in teaching]
    for a, b in zip(multi[2:], mean[2:], strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(multi[0], sum(one[0] for one in ones) / 3)
    torch.testing.assert_close(multi[1] - mean[1], jensen_shannon(teaching, context, index_TK), atol=1e-11, rtol=1e-9)
    assert multi[0] > mean[0]


def jensen_shannon(teaching: list[Teacher], context: AttnContext, index_TK: Tensor | None) -> Tensor:
    """Mean over layers of KL(p_l || mean p) at every token, written out."""
    values = []
    for t in range(context.num_tokens):
        start = int(context.starts_T[t])
        seen = list(range(start, t + 1)) if index_TK is None else [s for s in index_TK[t].tolist() if s >= 0]
        rows = []
        for q, k, scale in teaching:
            heads = [
                torch.softmax(k[seen, n * k.shape[1] // q.shape[1]] @ q[t, n] * scale, dim=0) for n in range(q.shape[1])
            ]
            rows.append(torch.stack(heads).sum(0) / q.shape[1])
        mean = torch.stack(rows).mean(0)
        values.append(torch.stack([(p * (p / mean).log()).sum() for p in rows]).mean())
    return torch.stack(values)


def test_a_perfect_student_has_no_loss_and_a_lone_token_none_either() -> None:
    """One head whose products are the teacher's, ReLU not in the way."""
    context = AttnContext((12, 1), torch.device("cpu"))
    q, k = randn(13, 1, 4, seed=0).abs(), randn(13, 1, 4, seed=1).abs()
    teacher = Teacher(q, k, 0.5)
    found = indexer_kl([teacher], q, k.squeeze(1), torch.full((13, 1), 0.5, dtype=torch.float64), context)
    assert found.kl_T.abs().max() < 1e-12
    random = indexer_kl([teacher], *student(13), context)
    assert random.loss > 0.1 and random.kl_T[12] == 0 and random.kl_T[0] == 0


@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_mass_on_the_selection(backend: str) -> None:
    context = AttnContext((30, 8), torch.device("cpu"))
    with use(indexer_kl=backend):
        some, more, every = (
            indexer_kl(teachers(38, 2), *student(38), context, measure_TK=selection(38, context, topk)).mass_T
            for topk in (3, 12, 30)
        )
    torch.testing.assert_close(every, torch.ones(38, dtype=torch.float64))
    assert (some <= more + 1e-12).all() and (some[5:30] < more[5:30]).any() and (some > 0).all()
    torch.testing.assert_close(some[:3], torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("chunk", [None, 5])
def test_compiled_gradients_do_not_depend_on_the_number_of_threads(chunk: int | None, monkeypatch) -> None:
    import numba

    if chunk is not None:
        compiled = package._OP.room.load("compiled")
        monkeypatch.setattr(compiled, "CHUNK_NUMBERS", 1)
        monkeypatch.setattr(compiled, "MIN_CHUNK", chunk)
    context, single = AttnContext((100, 30), torch.device("cpu")), torch.float32
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            torch.set_num_threads(threads)
            with use(indexer_kl="compiled"):
                index_TK = selection(130, context, 9)
                found.append(with_gradients(student(130, single), teachers(130, 2, single), context, index_TK=index_TK))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_loss_without_gradients_computes_none() -> None:
    context = AttnContext((40,), torch.device("cpu"))
    index_TK = selection(40, context, 9)
    inputs = student(40, torch.float32)
    with torch.no_grad():
        alone = indexer_kl(teachers(40, 1, torch.float32), *inputs, context, index_TK=index_TK)
    expected = with_gradients(inputs, teachers(40, 1, torch.float32), context, index_TK=index_TK)
    assert not alone.loss.requires_grad and torch.equal(alone.kl_T, expected[1])


def test_teachers_get_no_gradient() -> None:
    context = AttnContext((9,), torch.device("cpu"))
    q = randn(9, 2, 4, seed=0).requires_grad_()
    k = randn(9, 1, 4, seed=1).requires_grad_()
    inputs = [x.requires_grad_() for x in student(9)]
    indexer_kl([Teacher(q, k, 0.5)], *inputs, context).loss.backward()
    assert q.grad is None and k.grad is None and all(x.grad is not None for x in inputs)


def test_what_does_not_fit_is_refused() -> None:
    context = AttnContext((9,), torch.device("cpu"))
    with pytest.raises(GodwitError, match="at least one teacher"):
        indexer_kl([], *student(9), context)
    with pytest.raises(GodwitError, match="do not fit each other and 9 tokens"):
        indexer_kl(teachers(8, 1), *student(9), context)
    with pytest.raises(GodwitError, match="do not fit each other and 9 tokens"):
        indexer_kl(teachers(9, 1), *student(8), context)
    for shape in ((8, 3), (9, 0), (9,)):
        with pytest.raises(GodwitError, match=r"positions must be \(T, K\), of at least one column, for 9 tokens; got"):
            indexer_kl(teachers(9, 1), *student(9), context, index_TK=torch.zeros(shape).int())


MEMORY = """
import sys, torch
from pathlib import Path
from godwit.ops.context import AttnContext
from godwit.ops.indexer_kl import Teacher, indexer_kl
torch.set_num_threads(1)
def run(total):
    q, k, w = (torch.randn(*shape, requires_grad=True) for shape in ((total, 4, 16), (total, 16), (total, 4)))
    teacher = Teacher(torch.randn(total, 4, 16), torch.randn(total, 4, 16), 0.25)
    indexer_kl([teacher], q, k, w, AttnContext.single(total)).loss.backward()
    # Not ru_maxrss: a child starts with its parent's.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:"))
print(run(512), run(int(sys.argv[1])))
"""
NEAREST = """
def nearest(total):
    return (torch.arange(total)[:, None] - torch.arange(64)).clamp(min=-1).int()
"""
SPARSE = NEAREST + MEMORY.replace("single(total)", "single(total), index_TK=nearest(total)")


def test_memory_is_linear_in_the_tokens() -> None:
    """8,192 tokens: scores of four heads would be 1 GB at once, per tensor."""
    done = subprocess.run([sys.executable, "-c", MEMORY, "8192"], capture_output=True, text=True, check=True)
    small, large = map(int, done.stdout.split())
    assert large - small < 220, (small, large)


def test_memory_over_the_selection_is_linear_too() -> None:
    """32,768 tokens: a mask alone would be 1 GB."""
    done = subprocess.run([sys.executable, "-c", SPARSE, "32768"], capture_output=True, text=True, check=True)
    small, large = map(int, done.stdout.split())
    assert large - small < 150, (small, large)
