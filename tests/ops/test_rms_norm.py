"""Normalisation: the compiled passes against the definition in float64, forward and gradients, and what is refused."""

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.ops.backends import use
from godwit.ops.rms_norm import rms_norm


def found(backend: str, shape: tuple[int, ...], dtype: torch.dtype, *, strided: bool) -> list[torch.Tensor]:
    """Output and both gradients."""
    torch.manual_seed(0)
    x = torch.randn(*shape[:-1], shape[-1] + 3)[..., 3:] if strided else torch.randn(shape)
    leaves = [x.to(dtype).requires_grad_(), torch.rand(shape[-1]).to(dtype).requires_grad_()]
    with use(rms_norm=backend):
        out = rms_norm(*leaves, eps=1e-5)
    assert out.shape == shape and out.dtype == dtype
    return [out, *torch.autograd.grad(out, leaves, torch.randn(shape).to(dtype))]


@pytest.mark.parametrize("strided", [True, False])
@pytest.mark.parametrize("shape", [(7, 24), (3, 2, 65), (130, 64), (5, 1), (0, 8)])
def test_compiled_is_the_definition(shape, strided):
    compiled = found("compiled", shape, torch.float32, strided=strided)
    reference = found("reference", shape, torch.float64, strided=strided)
    for got, expected in zip(compiled, reference, strict=True):
        torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-5)


def test_gradients_do_not_depend_on_the_number_of_threads():
    before, gradients = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            gradients.append(found("compiled", (300, 200), torch.float32, strided=False))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_rows_of_zeros_stay_zeros():
    assert torch.equal(rms_norm(torch.zeros(2, 4), torch.ones(4), eps=1e-6), torch.zeros(2, 4))


def test_what_does_not_fit_is_refused():
    with pytest.raises(GodwitError, match=r"width 4 take as many weights, got \(3,\)"):
        rms_norm(torch.zeros(2, 4), torch.ones(3), eps=1e-6)
    with use(rms_norm="compiled"), pytest.raises(GodwitError, match="bfloat16 is not float32"):
        rms_norm(torch.zeros(2, 4).bfloat16(), torch.ones(4).bfloat16(), eps=1e-6)
