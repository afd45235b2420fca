"""Attention over selected positions beyond the parity matrix: merging by log-sum-exp, threads, chunks, bad input."""

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.ops.backends import use
from godwit.ops.context import AttnContext
from godwit.ops.sparse_attention import Attended, compiled, sparse_attention
from tests.ops.test_matrix import NO_LSE, randn, random_selection


def inputs(total: int, *, heads: int = 4, groups: int = 2) -> list[torch.Tensor]:
    shapes = ((total, heads, 8), (total, groups, 8), (total, groups, 8))
    return [randn(*shape, seed=n).float().requires_grad_() for n, shape in enumerate(shapes)]


def test_two_halves_of_a_selection_merge_by_their_log_sum_exp() -> None:
    context = AttnContext((80,), torch.device("cpu"))
    index_TK = random_selection(context, 12)
    later = index_TK[:, 6:].clone()
    later[later[:, 0] < 0, 0] = 0  # rows need one position; they are left out below
    whole, one, other = (
        sparse_attention(*inputs(80), index, context, scale=0.3, with_lse=True)
        for index in (index_TK, index_TK[:, :6].contiguous(), later)
    )
    weights = torch.stack((one.lse_TH, other.lse_TH)).softmax(0).unsqueeze(-1)
    merged_THE = weights[0] * one.out_THE + weights[1] * other.out_THE
    torch.testing.assert_close(merged_THE[12:], whole.out_THE[12:], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(torch.logaddexp(one.lse_TH, other.lse_TH)[12:], whole.lse_TH[12:])


def test_the_fused_backend_passes_when_the_log_sum_exp_is_wanted() -> None:
    context = AttnContext((9,), torch.device("cpu"))
    index_TK = random_selection(context, 4)
    assert sparse_attention(*inputs(9), index_TK, context, scale=0.3).lse_TH is None
    assert sparse_attention(*inputs(9), index_TK, context, scale=0.3, with_lse=True).lse_TH.shape == (9, 4)
    with use(sparse_attention="masked"), pytest.raises(GodwitError, match=f"'masked' cannot run here: {NO_LSE}"):
        sparse_attention(*inputs(9), index_TK, context, scale=0.3, with_lse=True)


@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_do_not_depend_on_the_number_of_threads(groups: int) -> None:
    import numba

    context = AttnContext((700,), torch.device("cpu"))
    leaves, index_TK = inputs(700, groups=groups), random_selection(context, 20)
    grads, before = [], torch.get_num_threads()
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            torch.set_num_threads(threads)
            loss = compiled.run(*leaves, index_TK, context, scale=0.3).out_THE.square().sum()
            grads.append(torch.autograd.grad(loss, leaves))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_cutting_the_backward_pass_changes_rounding_only(monkeypatch) -> None:
    context = AttnContext((300, 90), torch.device("cpu"))
    leaves, index_TK = inputs(390), random_selection(context, 20)
    grads = []
    for numbers in (1 << 18, 1):
        monkeypatch.setattr(compiled, "CHUNK_NUMBERS", numbers)
        monkeypatch.setattr(compiled, "MIN_CHUNK", 37)
        loss = compiled.run(*leaves, index_TK, context, scale=0.3).out_THE.square().sum()
        grads.append(torch.autograd.grad(loss, leaves))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_only_the_log_sum_exp_may_be_used(backend: str) -> None:
    context = AttnContext((30,), torch.device("cpu"))
    leaves, index_TK = inputs(30), random_selection(context, 7)
    with use(sparse_attention=backend):
        found = sparse_attention(*leaves, index_TK, context, scale=0.3, with_lse=True)
    assert isinstance(found, Attended)
    dq, dk = torch.autograd.grad(found.lse_TH.sum(), leaves[:2])
    # The weights of a row sum to 1, so its gradient is a mean of its keys.
    with use(sparse_attention="reference"):
        keys_as_values = (leaves[0], leaves[1], leaves[1])
        mean = sparse_attention(*keys_as_values, index_TK, context, scale=0.3).out_THE
    torch.testing.assert_close(dq, 0.3 * mean, atol=1e-6, rtol=1e-5)
    assert dk.abs().max() > 0


@pytest.mark.parametrize(
    ("q", "k", "v", "index"),
    [
        ((9, 4, 8), (9, 3, 8), (9, 3, 8), (9, 2)),  # 3 does not divide 4
        ((9, 4, 8), (9, 2, 6), (9, 2, 8), (9, 2)),
        ((9, 4, 8), (9, 2, 8), (9, 1, 8), (9, 2)),
        ((9, 4, 8), (9, 2, 8), (9, 2, 8), (8, 2)),
        ((9, 4, 8), (9, 2, 8), (9, 2, 8), (9, 0)),  # k of 0
        ((8, 4, 8), (8, 2, 8), (8, 2, 8), (8, 2)),  # the context has 9
        ((9, 32), (9, 2, 8), (9, 2, 8), (9, 2)),
    ],
)
def test_shapes_that_do_not_fit_are_answered(q, k, v, index) -> None:
    context = AttnContext((9,), torch.device("cpu"))
    with pytest.raises(GodwitError, match=r"sparse_attention wants .* for 9 tokens; got \("):
        sparse_attention(*(torch.zeros(shape) for shape in (q, k, v)), torch.zeros(index).int(), context, scale=1.0)
