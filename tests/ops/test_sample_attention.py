"""Selection of SampleAttention: what it promises, and what it must never do."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from godwit.base.errors import GodwitError
from godwit.ops.attention import attention
from godwit.ops.context import AttnContext
from godwit.ops.sample_attention import Sampling, Stripes, sample_attention, select_stripes, stripe_attention
from godwit.ops.sample_attention._stripes import sampled_rows
from godwit.ops.sample_attention.reference import seen

SCALE = 0.5


def inputs(total: int, *, heads: int = 4, groups: int = 2, sharp: float = 2.0, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((total, heads, 8), (total, groups, 8), (total, groups, 6))
    q_THD, k_TGD, v_TGE = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return [q_THD * sharp, k_TGD, v_TGE]


def dense_p(q_LHD: torch.Tensor, k_LGD: torch.Tensor) -> torch.Tensor:
    """(H, L, L) causal softmax of one document, by hand."""
    k_LHD = k_LGD.repeat_interleave(q_LHD.shape[1] // k_LGD.shape[1], dim=1)
    score_HLL = torch.einsum("qhd,khd->hqk", q_LHD, k_LHD) * SCALE
    length = q_LHD.shape[0]
    return score_HLL.masked_fill(torch.ones(length, length).triu(1).bool(), -math.inf).softmax(-1)


@pytest.mark.parametrize("sampling", [Sampling(alpha=1.0), Sampling(alpha=0.1, window_ratio=1.0)])
def test_what_keeps_everything_is_dense_attention(sampling: Sampling) -> None:
    context = AttnContext((300, 0, 1, 40), torch.device("cpu"))
    q, k, v = inputs(341)
    out = sample_attention(q, k, v, context, scale=SCALE, sampling=sampling)
    torch.testing.assert_close(out, attention(q, k, v, context, scale=SCALE), atol=1e-12, rtol=0)


def test_a_window_longer_than_the_document_is_the_whole_document() -> None:
    context = AttnContext((200, 30), torch.device("cpu"))
    q, k, v = inputs(230)
    stripes = Stripes(torch.zeros(230, 4, dtype=torch.bool), (5000, 30))
    out = stripe_attention(q, k, v, stripes, context, scale=SCALE)
    torch.testing.assert_close(out, attention(q, k, v, context, scale=SCALE), atol=1e-12, rtol=0)
    assert stripes.density_H(context).tolist() == [1.0] * 4


@settings(deadline=None, max_examples=40)
@given(
    length=st.integers(1, 90),
    alpha=st.floats(0.05, 0.999),
    row_ratio=st.floats(0.01, 1.0),
    window_ratio=st.floats(0.0, 1.0),
    sharp=st.sampled_from([0.0, 1.0, 8.0]),
    outside=st.booleans(),
)
def test_the_sampled_rows_keep_alpha_on_average_with_the_fewest_columns(
    length: int, alpha: float, row_ratio: float, window_ratio: float, sharp: float, outside: bool
) -> None:
    context = AttnContext.single(length)
    q, k, _ = inputs(length, sharp=sharp)
    sampling = Sampling(
        alpha=alpha, row_ratio=row_ratio, window_ratio=window_ratio, outside_window=outside, dense_above=1.0
    )
    stripes = select_stripes(q, k, context, scale=SCALE, sampling=sampling)
    window = stripes.window_S[0]
    rows_R = sampled_rows(row_ratio, length, torch.device("cpu"))
    assert rows_R[-1] == length - 1 and len(rows_R) == math.ceil(row_ratio * length)
    assert (rows_R.diff() > 0).all()
    p_HRL = dense_p(q, k)[:, rows_R]
    seen_HRL = seen(stripes.keep_TH, 0, length, window)[:, rows_R]
    assert ((p_HRL * seen_HRL).sum(-1).mean(-1) >= alpha - 1e-9).all()
    if window == length:
        return
    near_HRL = seen(torch.zeros_like(stripes.keep_TH), 0, length, window)[:, rows_R]
    counted_HRL = p_HRL * ~near_HRL if outside else p_HRL
    free_H = (p_HRL * near_HRL).sum((1, 2)) if outside else torch.zeros(4)
    for head in range(4):
        mass_L = counted_HRL[head].sum(0)
        kept = stripes.keep_TH[:, head]
        if kept.any():  # without its weakest column it would hold less than alpha
            weaker = mass_L[kept].sum() - mass_L[kept].min() + free_H[head]
            assert weaker < alpha * len(rows_R) + 1e-9
            assert mass_L[kept].min() >= (mass_L[~kept].max() if not kept.all() else 0.0) - 1e-12


def test_equal_columns_are_taken_from_the_left() -> None:
    q, k = torch.zeros(64, 2, 4), torch.zeros(64, 1, 4)
    sampling = Sampling(alpha=0.5, row_ratio=1 / 64, window_ratio=0.1, dense_above=1.0)
    stripes = select_stripes(q, k, AttnContext.single(64), scale=1.0, sampling=sampling)
    assert stripes.keep_TH[:, 0].nonzero().flatten().tolist() == list(range(32))


def test_nothing_after_a_row_changes_its_weights_on_given_stripes_and_nothing_flows_back() -> None:
    context = AttnContext.single(300)
    q, k, v = inputs(300)
    stripes = select_stripes(q, k, context, scale=SCALE, sampling=Sampling(alpha=0.6, dense_above=1.0))
    before = stripe_attention(q, k, v, stripes, context, scale=SCALE)
    for tensor in (q, k, v):
        tensor[150:] = torch.randn_like(tensor[150:]) * 9
    after = stripe_attention(q, k, v, stripes, context, scale=SCALE)
    torch.testing.assert_close(after[:150], before[:150], atol=0, rtol=0)
    assert not torch.allclose(after[150:], before[150:])
    leaves = [tensor.requires_grad_() for tensor in (q, k, v)]
    out = sample_attention(*leaves, context, scale=SCALE, sampling=Sampling(alpha=0.6, dense_above=1.0))
    grads = torch.autograd.grad(out[:150].sum(), leaves)
    assert all((grad[150:] == 0).all() and (grad[:150] != 0).any() for grad in grads)


def test_documents_and_heads_choose_apart() -> None:
    context = AttnContext((70, 0, 50), torch.device("cpu"))
    q, k, v = inputs(120, heads=6, groups=3)
    sampling = Sampling(alpha=0.7, row_ratio=0.2, dense_above=0.5)
    together = sample_attention(q, k, v, context, scale=SCALE, sampling=sampling)
    for start, end in context.bounds:
        for head in range(6):
            part = (q[start:end, head : head + 1], k[start:end, head // 2, None], v[start:end, head // 2, None])
            alone = sample_attention(*part, AttnContext.single(end - start), scale=SCALE, sampling=sampling)
            torch.testing.assert_close(together[start:end, head : head + 1], alone, atol=1e-12, rtol=0)


def test_density_counts_every_pair() -> None:
    context = AttnContext((37, 64), torch.device("cpu"))
    q, k, _ = inputs(101)
    stripes = select_stripes(
        q, k, context, scale=SCALE, sampling=Sampling(alpha=0.5, window_ratio=0.2, dense_above=1.0)
    )
    for document, (start, end) in enumerate(context.bounds):
        mask_HLL = seen(stripes.keep_TH[start:end], 0, end - start, stripes.window_S[document])
        assert stripes.entries_SH(context)[document].tolist() == mask_HLL.sum((1, 2)).tolist()
    assert (stripes.density_H(context) < 1).all()


def test_a_head_that_looks_everywhere_is_dense_and_exact_and_leaves_the_others_alone() -> None:
    context = AttnContext((400, 300), torch.device("cpu"))
    q, k, v = inputs(700, sharp=0.1)
    q[:, 1:, :] *= 0.1  # even, so that nearly every column is needed
    q[:, 0, 0], k[:, :, 0] = 6.0, 0.0
    k[0, :, 0] = k[400, :, 0] = 6.0  # a sink in each document
    sampling = Sampling(alpha=0.95, row_ratio=0.1)
    stripes = select_stripes(q, k, context, scale=SCALE, sampling=sampling)
    plain = select_stripes(q, k, context, scale=SCALE, sampling=dataclasses.replace(sampling, dense_above=1.0))
    assert stripes.density_H(context)[1:].tolist() == [1.0] * 3 and (plain.density_H(context) < 1).all()
    torch.testing.assert_close(stripes.keep_TH[:, 0], plain.keep_TH[:, 0])
    dense = attention(q, k, v, context, scale=SCALE)
    kept = stripe_attention(q, k, v, stripes, context, scale=SCALE)
    without = stripe_attention(q, k, v, plain, context, scale=SCALE)
    torch.testing.assert_close(kept[:, 1:], dense[:, 1:], atol=1e-12, rtol=0)
    torch.testing.assert_close(kept[:, 0], without[:, 0], atol=0, rtol=0)
    assert (without[:, 1:] - dense[:, 1:]).abs().max() > 1e-3
    assert select_stripes(q, k, context, scale=SCALE, sampling=Sampling(dense_above=0.0)).keep_TH.all()


def test_a_sink_is_found_by_few_rows() -> None:
    q, k, _ = inputs(1000, sharp=0.1)
    k[0], q[..., 0] = 0.0, 6.0
    k[0, :, 0] = 6.0
    stripes = select_stripes(q, k, AttnContext.single(1000), scale=SCALE, sampling=Sampling(alpha=0.9, row_ratio=0.01))
    assert stripes.keep_TH.sum(0).tolist() == [1] * 4
    assert stripes.keep_TH[0].all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"alpha": 1.1}, "alpha is 1.1"),
        ({"alpha": math.nan}, "alpha is nan"),
        ({"row_ratio": 0.0}, "row_ratio is 0.0"),
        ({"row_ratio": 2.0}, "row_ratio is 2.0"),
        ({"window_ratio": -0.1}, "window_ratio is -0.1"),
        ({"window_ratio": 8.0}, "window_ratio is 8.0"),
        ({"dense_above": 1.5}, "dense_above is 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(GodwitError, match=message):
        Sampling(**settings)


def test_bad_tensors_are_refused() -> None:
    context, sampling = AttnContext.single(50), Sampling()
    q, k, v = inputs(50)
    with pytest.raises(GodwitError, match="must have the 50 tokens"):
        select_stripes(q[:40], k, context, scale=SCALE, sampling=sampling)
    with pytest.raises(GodwitError, match="3 key-value heads must divide 4 query heads"):
        select_stripes(q, torch.zeros(50, 3, 8), context, scale=SCALE, sampling=sampling)
    with pytest.raises(GodwitError, match="must agree in tokens and heads"):
        sample_attention(q, k, v[:, :1], context, scale=SCALE, sampling=sampling)
    stripes = select_stripes(q, k, context, scale=SCALE, sampling=sampling)
    with pytest.raises(GodwitError, match="do not fit"):
        stripe_attention(q[:, :2], k, v, stripes, context, scale=SCALE)
    q[49, 2, 0] = math.nan
    with pytest.raises(GodwitError, match="NaN or infinite"):
        select_stripes(q, k, context, scale=SCALE, sampling=sampling)


def test_no_tokens_at_all() -> None:
    out = sample_attention(*inputs(0), AttnContext((), torch.device("cpu")), scale=1.0, sampling=Sampling())
    assert out.shape == (0, 4, 6)
