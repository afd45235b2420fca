"""Absorbed attention beyond the parity matrix: against expanded attention, gradients, determinism, bad input."""

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.models.families.glm_moe_dsa import Config
from godwit.models.init import build
from godwit.ops.backends import use
from godwit.ops.context import AttnContext
from godwit.ops.index_topk import index_topk
from godwit.ops.sparse_attention import compiled, masked, sparse_attention
from godwit.ops.sparse_mla import compiled as mla_compiled
from godwit.ops.sparse_mla import sparse_mla


def randn(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def selection(context: AttnContext, topk: int) -> torch.Tensor:
    total = context.num_tokens
    return index_topk(randn(total, 4, 8, seed=7), randn(total, 8, seed=8), randn(total, 4, seed=9), context, topk=topk)


def test_it_is_sparse_attention_with_one_key_value_head() -> None:
    context = AttnContext((30, 12), torch.device("cpu"))
    index_TK = selection(context, 9)
    results = []
    for absorbed in (False, True):
        q, c = (randn(*shape, seed=5).requires_grad_() for shape in ((42, 4, 12), (42, 12)))
        if absorbed:
            out = sparse_mla(q, c, index_TK, scale=0.3, latent_width=8).out_QHC
        else:
            out = sparse_attention(q, c.unsqueeze(1), c[:, None, :8], index_TK, context, scale=0.3).out_THE
        results.append((out, *torch.autograd.grad((out * randn(42, 4, 8, seed=6)).sum(), (q, c))))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_the_model_without_gradients_equals_the_expanded_form(backend: str) -> None:
    config = Config(
        vocab_size=64, hidden_size=64, intermediate_size=64, moe_intermediate_size=32, num_hidden_layers=2,
        first_k_dense_replace=1, num_attention_heads=6, num_key_value_heads=6, q_lora_rank=32, kv_lora_rank=24,
        qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=20, n_routed_experts=4, num_experts_per_tok=2,
        index_n_heads=3, index_head_dim=12, index_topk=24, num_nextn_predict_layers=0,
    )  # fmt: skip
    model = build(config, seed=1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    tokens_T = torch.arange(300) * 7 % 64
    expanded = model(tokens_T, torch.tensor([0, 200, 300]))
    with torch.no_grad(), use(sparse_mla=backend):
        absorbed = model(tokens_T, torch.tensor([0, 200, 300]), indices=expanded.indices)
    assert len(expanded.indices) == 2
    assert expanded.logits_TV.std() > 0.01
    torch.testing.assert_close(absorbed.logits_TV, expanded.logits_TV.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("heads", "width", "latent"), [(1, 40, 40), (2, 64, 48), (6, 144, 128), (8, 576, 512)])
def test_many_rows_in_parts_and_heads_in_pairs_or_fours(heads: int, width: int, latent: int) -> None:
    """More rows than a part holds, some queries with fewer; groups of two and of four heads, all widths of columns."""
    from godwit.ops.sparse_mla._kernel import PART

    num_rows, width_K = 2 * PART + 100, PART + 77
    q_QHW = randn(9, heads, width, seed=0, dtype=torch.float32)
    c_TW = randn(num_rows, width, seed=1, dtype=torch.float32)
    index_QK = torch.stack([torch.randperm(num_rows)[:width_K].sort().values for _ in range(9)]).int()
    index_QK[3, PART - 5 :], index_QK[4, 1:], index_QK[5, PART:] = -1, -1, -1
    with use(sparse_mla="compiled"):
        found = sparse_mla(q_QHW, c_TW, index_QK, scale=0.1, latent_width=latent)
    with use(sparse_mla="reference"):
        expected = sparse_mla(q_QHW.double(), c_TW.double(), index_QK, scale=0.1, latent_width=latent)
    torch.testing.assert_close(found.out_QHC.double(), expected.out_QHC, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.lse_QH.double(), expected.lse_QH, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("missing", [0, 3])
def test_of_a_pool_no_more_is_copied_than_up_to_the_last_row_read(missing: int, monkeypatch) -> None:
    """Rows of whole registers are read where they lie; those behind may hold anything."""
    from godwit.ops.sparse_mla._products import COLUMNS

    width = 2 * COLUMNS - missing
    taken, apply = [], mla_compiled._Attend.apply
    monkeypatch.setattr(mla_compiled._Attend, "apply", lambda q, c, *rest: taken.append(c) or apply(q, c, *rest))
    pool, index = torch.full((1000, width), torch.nan), torch.tensor([[7, 49, -1], [3, 0, 12]])
    pool[:50] = randn(50, width, seed=1, dtype=torch.float32)
    q = randn(2, 4, width, seed=2, dtype=torch.float32)
    with use(sparse_mla="compiled"):
        found = sparse_mla(q, pool, index, scale=0.3, latent_width=COLUMNS).out_QHC
    with use(sparse_mla="reference"):
        expected = sparse_mla(q, pool[:50], index, scale=0.3, latent_width=COLUMNS).out_QHC
    torch.testing.assert_close(found, expected)
    assert len(taken[0]) == 50 if missing else taken[0].data_ptr() == pool.data_ptr()


@pytest.mark.parametrize("chunk", [None, 5])
def test_gradients_do_not_depend_on_the_number_of_threads(chunk: int | None, monkeypatch) -> None:
    import numba

    if chunk is not None:
        monkeypatch.setattr(mla_compiled, "CHUNK_NUMBERS", 1)
        monkeypatch.setattr(mla_compiled, "MIN_CHUNK", chunk)
    index_TK = selection(AttnContext.single(130), 20)
    leaves = [randn(*shape, seed=1, dtype=torch.float32).requires_grad_() for shape in ((130, 5, 24), (130, 24))]
    grads, before = [], torch.get_num_threads()
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            torch.set_num_threads(threads)
            found = mla_compiled.run(*leaves, index_TK, scale=0.3, latent_width=20)
            grads.append(torch.autograd.grad(found.out_QHC.square().sum() + found.lse_QH.sum(), leaves))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_large_scores_do_not_overflow() -> None:
    q, c = randn(4, 4, 6, seed=0, dtype=torch.float32) * 300, randn(9, 6, seed=1, dtype=torch.float32) * 30
    index_QK = torch.arange(9).int().expand(4, -1)
    got = sparse_mla(q, c, index_QK, scale=1.0, latent_width=4)
    with use(sparse_mla="reference"):
        expected = sparse_mla(q.double(), c.double(), index_QK, scale=1.0, latent_width=4)
    torch.testing.assert_close(got.out_QHC.double(), expected.out_QHC, atol=0.05, rtol=0)
    torch.testing.assert_close(got.lse_QH.double(), expected.lse_QH, atol=0, rtol=1e-5)


@pytest.mark.parametrize("backend", [compiled, masked])
def test_sparse_attention_has_the_same_gradients_in_every_run(backend) -> None:
    context = AttnContext((300,), torch.device("cpu"))
    inputs = [randn(300, heads, 8, seed=heads, dtype=torch.float32).requires_grad_() for heads in (4, 2, 2)]
    index_TK = selection(context, 20)
    run = lambda: backend.run(*inputs, index_TK, context, scale=0.3).out_THE.sum()  # noqa: E731
    grads = [torch.autograd.grad(run(), inputs) for _ in range(2)]
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_long_documents_take_the_compiled_path_and_short_ones_the_mask() -> None:
    inputs = [torch.zeros(100, 2, 4)] * 3
    for topk, reason in ((10, "documents of more than 40 tokens"), (25, None)):
        index_TK = torch.zeros(100, topk).int()
        found = masked.why_not(*inputs, index_TK, AttnContext.single(100), scale=1.0)
        assert found is None if reason is None else found.startswith(reason)


def test_shapes_that_do_not_fit_are_answered() -> None:
    for row, columns, latent in ((3, 1, 2), (4, 0, 2), (4, 1, 0), (4, 1, 5)):
        index_QK = torch.zeros(8, columns).int()
        with pytest.raises(GodwitError, match="sparse_mla wants"):
            sparse_mla(torch.zeros(8, 2, 4), torch.zeros(8, row), index_QK, scale=1.0, latent_width=latent)
