"""The parity matrix: every backend of every operation against its reference in float64, forward and gradient.

A new backend needs no new test: it is found in its folder.
"""

import math

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.ops import (
    attention,
    draw,
    experts,
    index_topk,
    index_topk_paged,
    index_two_level,
    indexer_kl,
    rms_norm,
    rotate,
    sample_attention,
    sparse_attention,
    sparse_mla,
)
from godwit.ops.backends import Op, op_names, use
from godwit.ops.context import AttnContext

OPS: dict[str, Op] = {
    "attention": attention._OP,
    "sparse_attention": sparse_attention._OP,
    "index_topk": index_topk._OP,
    "index_topk_paged": index_topk_paged._OP,  # its parity is in test_index_topk_paged.py
    "indexer_kl": indexer_kl._OP,  # its parity is in test_indexer_kl.py
    "rotate": rotate._OP,  # its parity is in test_rotate.py
    "rms_norm": rms_norm._OP,  # its parity is in test_rms_norm.py
    "draw": draw._OP,  # its parity is in test_draw.py
    "experts": experts._OP,
    "sparse_mla": sparse_mla._OP,
    "index_two_level": index_two_level._OP,
    "sample_attention": sample_attention._OP,
}
BACKENDS = [(op, name) for op, o in OPS.items() for name in o.room.names() if name != "reference"]
# Document lengths: one, one token, ragged with an empty document, equal rows, longer than a block of queries, ragged
# and short for interpreted kernels.
LENGTHS = [(33,), (1,), (5, 0, 21, 1, 40), (16, 16, 16), (700, 90), (3, 0, 9, 1)]
TOPK = [1, 8, 40, 1000]
NO_LSE = "the fused attention does not give its log-sum-exp"


def test_the_matrix_holds_every_operation() -> None:
    assert set(OPS) == set(op_names())
    assert len(BACKENDS) >= 4


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def compare(op: Op, backend: str, inputs: list[torch.Tensor], run, *, dtype: torch.dtype = torch.float32) -> None:
    """Output and input gradients of a backend in `dtype` against the reference in float64."""
    results = []
    for name, kind in (("reference", torch.float64), (backend, dtype)):
        leaves = [tensor.to(kind).requires_grad_() for tensor in inputs]
        module = op.room.load(name)
        found = run(module, leaves)
        outputs = [found] if isinstance(found, torch.Tensor) else list(found)
        weighted = [(x * randn(*x.shape, seed=99 + n).to(kind)).sum() for n, x in enumerate(outputs)]
        results.append([*outputs, *torch.autograd.grad(sum(weighted), leaves)])
    for expected, got in zip(*results, strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("backend", [name for op, name in BACKENDS if op == "attention"])
@pytest.mark.parametrize(("groups", "value"), [(4, 8), (2, 8), (1, 5)])
def test_attention(backend: str, lengths: tuple[int, ...], groups: int, value: int) -> None:
    context, total = AttnContext(lengths, torch.device("cpu")), sum(lengths)
    inputs = [randn(total, 4, 8, seed=0), randn(total, groups, 8, seed=1), randn(total, groups, value, seed=2)]
    compare(OPS["attention"], backend, inputs, lambda module, leaves: module.run(*leaves, context, scale=0.3))


@pytest.mark.parametrize("topk", TOPK)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("backend", [name for op, name in BACKENDS if op == "sparse_attention"])
@pytest.mark.parametrize(("groups", "value"), [(4, 8), (2, 5)])
def test_sparse_attention(backend: str, lengths: tuple[int, ...], topk: int, groups: int, value: int) -> None:
    context, total = AttnContext(lengths, torch.device("cpu")), sum(lengths)
    inputs = [randn(total, 4, 8, seed=0), randn(total, groups, 8, seed=1), randn(total, groups, value, seed=2)]
    index_TK = random_selection(context, topk)
    run = lambda module, leaves: module.run(*leaves, index_TK, context, scale=0.3).out_THE  # noqa: E731
    compare(OPS["sparse_attention"], backend, inputs, run)
    asked = {"scale": 0.3, "with_lse": True}
    if OPS["sparse_attention"].room.load(backend).why_not(*inputs, index_TK, context, **asked) != NO_LSE:
        # Gradients of both results at once.
        run = lambda module, leaves: module.run(*leaves, index_TK, context, **asked)  # noqa: E731
        compare(OPS["sparse_attention"], backend, inputs, run)


@pytest.mark.parametrize("topk", TOPK)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("backend", [name for op, name in BACKENDS if op == "sparse_mla"])
@pytest.mark.parametrize(("heads", "latent"), [(4, 16), (3, 21)])
def test_sparse_mla(backend: str, lengths: tuple[int, ...], topk: int, heads: int, latent: int) -> None:
    total, op = sum(lengths), OPS["sparse_mla"]
    q_QHW, c_TW = randn(total, heads, latent + 4, seed=0), randn(total, latent + 4, seed=1)
    index_TK = random_selection(AttnContext(lengths, torch.device("cpu")), topk)
    # Outputs, log-sum-exp, and gradients of both at once.
    run = lambda module, leaves: module.run(*leaves, index_TK, scale=0.3, latent_width=latent)  # noqa: E731
    compare(op, backend, [q_QHW, c_TW], run)


def random_selection(context: AttnContext, topk: int) -> torch.Tensor:
    q, k, w = index_inputs(context.num_tokens)
    return index_topk.index_topk(q, k, w, context, topk=topk)


def index_inputs(total: int, *, heads: int = 16, ties: bool = False) -> tuple[torch.Tensor, ...]:
    """Eighths of whole numbers: every product and sum is exact in float32, so all backends see the same scores."""
    q_THD, k_TD, w_TH = randn(total, heads, 8, seed=3), randn(total, 8, seed=4), randn(total, heads, seed=5)
    if ties:
        # From a tiny range: most scores are equal to others, many are exactly 0.
        q_THD, k_TD, w_TH = q_THD.round().clamp(0, 1), k_TD.round().clamp(-1, 0), w_TH.round().clamp(-1, 1)
    return tuple((tensor * 8).round().div(8).float() for tensor in (q_THD, k_TD, w_TH))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("topk", TOPK)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("backend", ["reference", *[name for op, name in BACKENDS if op == "index_topk"]])
def test_index_topk_against_sorting_in_python(backend: str, lengths: tuple[int, ...], topk: int, ties: bool) -> None:
    context = AttnContext(lengths, torch.device("cpu"))
    q, k, w = index_inputs(sum(lengths), ties=ties)
    with use(index_topk=backend):
        got_TK = index_topk.index_topk(q, k, w, context, topk=topk)
    assert got_TK.dtype == torch.int32
    assert got_TK.shape == (sum(lengths), min(topk, max(lengths)))
    dots = torch.relu(torch.einsum("thd,sd->ths", q, k))
    scores = torch.einsum("th,ths->ts", w, dots)
    for start, end in context.bounds:
        for row in range(start, end, max(1, (end - start) // 12)):
            ranked = sorted(range(start, row + 1), key=lambda s, row=row: (-scores[row, s].item(), s))
            expected = sorted(ranked[:topk])
            got = got_TK[row].tolist()
            assert got == expected + [-1] * (got_TK.shape[1] - len(expected)), (row, topk)


@pytest.mark.parametrize("window", [1, 20, 200, 10_000])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("backend", [name for op, name in BACKENDS if op == "sample_attention"])
@pytest.mark.parametrize(("groups", "value"), [(4, 8), (2, 5)])
def test_sample_attention(backend: str, lengths: tuple[int, ...], window: int, groups: int, value: int) -> None:
    context, total = AttnContext(lengths, torch.device("cpu")), sum(lengths)
    inputs = [randn(total, 4, 8, seed=0), randn(total, groups, 8, seed=1), randn(total, groups, value, seed=2)]
    keep_TH = randn(total, 4, seed=6) > torch.tensor([-9.0, 0.0, 1.5, 9.0])  # every, half, few, no columns
    stripes = sample_attention.Stripes(keep_TH, (window,) * len(context.bounds))
    run = lambda module, leaves: module.run(*leaves, stripes, context, scale=0.3)  # noqa: E731
    compare(OPS["sample_attention"], backend, inputs, run)


@pytest.mark.parametrize("counts", [(3, 0, 5, 1), (0, 0, 0, 7), (1, 1, 1, 1)])
@pytest.mark.parametrize("backend", [name for op, name in BACKENDS if op == "experts"])
def test_experts(backend: str, counts: tuple[int, ...]) -> None:
    inputs = [randn(sum(counts), 8, seed=0), randn(4, 24, 8, seed=1), randn(4, 8, 12, seed=2)]
    count_E = torch.tensor(counts)
    compare(OPS["experts"], backend, inputs, lambda module, leaves: module.run(*leaves, count_E))


def test_experts_without_any_row_run() -> None:
    out_ND = experts.experts(torch.zeros(0, 8), torch.zeros(4, 24, 8), torch.zeros(4, 8, 12), torch.zeros(4).long())
    assert out_ND.shape == (0, 8)


def test_selecting_everything_is_dense_attention() -> None:
    context = AttnContext((30, 12), torch.device("cpu"))
    q, k, v = randn(42, 4, 8, seed=0), randn(42, 4, 8, seed=1), randn(42, 4, 8, seed=2)
    dense = attention.attention(q, k, v, context, scale=0.3)
    index_TK = random_selection(context, 30)
    sparse = sparse_attention.sparse_attention(q, k, v, index_TK, context, scale=0.3)
    torch.testing.assert_close(sparse.out_THE, dense, atol=1e-12, rtol=0)
    assert sparse.lse_TH is None


def test_attention_weights_by_hand() -> None:
    context = AttnContext((2,), torch.device("cpu"))
    q = torch.tensor([[[1.0]], [[2.0]]])
    k = torch.tensor([[[0.0]], [[math.log(3.0)]]])
    v = torch.tensor([[[10.0]], [[20.0]]])
    out = attention.attention(q, k, v, context, scale=0.5)
    assert out.flatten().tolist() == pytest.approx([10.0, 0.25 * 10 + 0.75 * 20])


def test_an_asked_for_backend_that_cannot_run_says_why(caplog) -> None:
    context = AttnContext((3,), torch.device("cpu"))
    q, wide_v = torch.randn(3, 2, 4), torch.randn(3, 2, 6)
    with use(attention="sdpa"), pytest.raises(GodwitError, match=r"sdpa.*cannot run here: value width 6"):
        attention.attention(q, q, wide_v, context, scale=1.0)
    with caplog.at_level("INFO", logger="godwit.ops.backends"):
        op = Op("godwit.ops.attention", order=("sdpa", "reference"))
        op(q, q, wide_v, context, scale=1.0)
        op(q, q, wide_v, context, scale=1.0)
    assert [record.message for record in caplog.records] == [
        "attention: backend sdpa passed over: value width 6 is larger than key width 4"
    ]


@pytest.mark.parametrize(
    ("asked", "message"),
    [({"atention": "sdpa"}, "did you mean 'attention'"), ({"attention": "spda"}, "did you mean 'sdpa'")],
)
def test_misspelt_names_are_answered(asked: dict[str, str], message: str) -> None:
    context = AttnContext((3,), torch.device("cpu"))
    q = torch.randn(3, 2, 4)
    with pytest.raises(GodwitError, match=message), use(**asked):
        attention.attention(q, q, q, context, scale=1.0)
