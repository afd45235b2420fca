"""SampleAttention in whole models: swapping it in, and measuring, comparing and tuning it."""

from functools import partial

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.models.decoder import Decoder
from godwit.models.families import config_from_hf
from godwit.models.init import build
from godwit.models.sample_attention import rivals
from godwit.models.sample_attention.measure import Row, kept_mass, mean_loss, measure
from godwit.models.sample_attention.tune import grid, tune
from godwit.ops.context import AttnContext
from godwit.ops.sample_attention import Sampling, sample_attention, select_stripes
from godwit.ops.sample_attention.reference import seen
from tests.models.parity import CASES

SAMPLING = Sampling(alpha=0.7, row_ratio=0.1, window_ratio=0.1, dense_above=1.0)


def model_of(name: str) -> Decoder:
    model = build(config_from_hf(CASES[name]), seed=1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8.0)  # attention that prefers something
    return model


def row(length: int = 160, *, seed: int = 0) -> Row:
    tokens_T = torch.randint(0, 97, (length,), generator=torch.Generator().manual_seed(seed))
    return Row(tokens_T, torch.cat((tokens_T[1:], torch.tensor([-100]))), AttnContext.single(length))


@pytest.mark.parametrize("name", ["glm45", "flash"])
def test_a_model_takes_it_for_one_call_and_is_unchanged(name: str) -> None:
    model, tokens_T = model_of(name), row().tokens_T
    borders = torch.tensor([0, 100, 160])
    with torch.no_grad():
        dense = model(tokens_T, borders).logits_TV
        everything = partial(sample_attention, sampling=Sampling(alpha=1.0))
        torch.testing.assert_close(model(tokens_T, borders, attend=everything).logits_TV, dense, atol=1e-3, rtol=1e-3)
        less = model(tokens_T, borders, attend=partial(sample_attention, sampling=SAMPLING)).logits_TV
        assert not torch.allclose(less, dense, atol=1e-2)
        assert torch.equal(model(tokens_T, borders).logits_TV, dense)


def test_a_model_with_indexers_has_no_dense_attention_to_replace() -> None:
    name = next(name for name, case in CASES.items() if case["model_type"] == "glm_moe_dsa")
    model, tokens_T = model_of(name), row().tokens_T
    attend = partial(sample_attention, sampling=SAMPLING)
    with torch.no_grad(), pytest.raises(GodwitError, match=r"longer than index_topk .* give dense=True"):
        model(tokens_T, attend=attend)
    with torch.no_grad():
        hidden_TD = model.features(tokens_T, AttnContext.single(160), dense=True, attend=attend).hidden_TD
    assert hidden_TD.isfinite().all()


def qk(length: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    q_THD, k_TGD = torch.randn(length, 4, 8, generator=generator), torch.randn(length, 2, 8, generator=generator)
    k_TGD[::23] *= 3
    return q_THD * 2, k_TGD


def test_rivals_compute_no_more_and_the_oracle_keeps_most() -> None:
    q_THD, k_TGD = qk()
    context = AttnContext((150, 50), torch.device("cpu"))
    makers = (rivals.sampled, rivals.sink_window, rivals.window_only, rivals.oracle)
    choices = [make(SAMPLING)(q_THD, k_TGD, context, 0.5) for make in makers]
    own, static, window, best = (choice.entries_SH(context) for choice in choices)
    assert (best <= own).all() and (best > own - 150).all()
    for entries_SH in (static, window):
        assert (entries_SH.sum(1) <= own.sum(1)).all() and (entries_SH.sum(1) > own.sum(1) - 4 * 150).all()
    assert choices[1].keep_TH.sum(0).tolist() == [8] * 4 and choices[1].keep_TH[[0, 3, 150, 153]].all()
    assert not choices[2].keep_TH.any()
    kept_M = kept_mass(q_THD, k_TGD, choices, context, scale=0.5).mean((1, 2))
    assert kept_M[3] > kept_M[0] > kept_M[1]


def test_kept_mass_is_the_part_of_the_softmax_that_is_seen() -> None:
    q_THD, k_TGD = qk()
    stripes = select_stripes(q_THD, k_TGD, AttnContext.single(200), scale=0.5, sampling=SAMPLING)
    score_HLL = torch.einsum("qhd,khd->hqk", q_THD, k_TGD.repeat_interleave(2, 1)) * 0.5
    p_HLL = score_HLL.masked_fill(torch.ones(200, 200).triu(1).bool(), -torch.inf).softmax(-1)
    expected_TH = (p_HLL * seen(stripes.keep_TH, 0, 200, stripes.window_S[0])).sum(-1).T
    got_TH = kept_mass(q_THD, k_TGD, [stripes], AttnContext.single(200), scale=0.5)[0]
    torch.testing.assert_close(got_TH, expected_TH)


def test_figures_are_those_of_the_model() -> None:
    model, rows = model_of("glm45"), [row(seed=0), row(120, seed=1)]
    methods = {
        "all": rivals.sampled(Sampling(alpha=1.0)),
        "some": rivals.sampled(SAMPLING),
        "fewer": rivals.sampled(Sampling(alpha=0.3, row_ratio=0.1, window_ratio=0.02)),
    }
    dense_loss, figures = measure(model, rows, methods)
    assert dense_loss == pytest.approx(mean_loss(model, rows))
    assert figures["all"].density == 1 and figures["all"].kept_min == pytest.approx(1, abs=1e-5)
    assert figures["all"].output_error < 1e-5 and figures["all"].loss_change == pytest.approx(0, abs=1e-4)
    some, fewer = figures["some"], figures["fewer"]
    assert 1 > some.density > fewer.density > 0
    assert some.kept_mean > fewer.kept_mean and some.output_error < fewer.output_error
    assert some.kept_mean >= some.kept_low >= some.kept_min >= 0
    assert some.loss - some.loss_change == pytest.approx(dense_loss)
    assert len(some.layers) == 4
    assert sum(layer.density for layer in some.layers) / 4 == pytest.approx(some.density)
    own = mean_loss(model, rows, partial(sample_attention, sampling=SAMPLING))
    assert some.loss == pytest.approx(own)


def test_tuning_takes_the_cheapest_within_the_limit() -> None:
    model, rows = model_of("glm45"), [row(80)]
    candidates = grid(alphas=(0.3, 0.9), row_ratios=(0.05,), window_ratios=(0.02,))
    loose = tune(model, rows, candidates, max_loss_change=1e9)
    assert len(loose.trials) == 4 and loose.choice == loose.trials[0]
    assert [trial.cost for trial in loose.trials] == sorted(trial.cost for trial in loose.trials)
    assert tune(model, rows, candidates[:1], max_loss_change=-1e9).choice is None


def test_rows_without_labels_are_refused() -> None:
    empty = row()._replace(labels_T=torch.full((160,), -100))
    with pytest.raises(GodwitError, match="no token has a label"):
        mean_loss(model_of("glm45"), [empty])
