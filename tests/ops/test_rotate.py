"""Rotation: the compiled pass against the definition, bit for bit, and what both refuse."""

import subprocess
import sys

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.ops.backends import use
from godwit.ops.rotate import rotate


def inputs(shape, pairs, *, strided=False):
    torch.manual_seed(0)
    x_THD = torch.randn(*shape[:2], shape[2] + 5)[..., 5:] if strided else torch.randn(shape)
    angle_TP = torch.randn(shape[0], pairs)
    return x_THD.requires_grad_(), angle_TP.cos(), angle_TP.sin()


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("strided", [True, False])
@pytest.mark.parametrize(
    ("shape", "pairs", "start"), [((7, 2, 24), 4, 16), ((5, 1, 8), 4, 0), ((1, 3, 20), 3, 5), ((0, 2, 8), 2, 0)]
)
def test_compiled_has_the_bits_of_the_reference(shape, pairs, start, strided, interleaved):
    found = []
    for backend in ("reference", "compiled"):
        x_THD, *tables = inputs(shape, pairs, strided=strided)
        with use(rotate=backend):
            out_THD = rotate(x_THD, *tables, start=start, interleaved=interleaved)
        weight_THD = torch.randn(out_THD.shape, generator=torch.Generator().manual_seed(1))
        (gradient_THD,) = torch.autograd.grad((out_THD * weight_THD).sum(), x_THD)
        found.append((out_THD.detach(), gradient_THD))
    for reference, compiled in zip(*found, strict=True):
        assert torch.equal(reference, compiled)


def test_rotation_is_the_products_of_complex_numbers_and_keeps_the_other_columns():
    x_THD, cos_TP, sin_TP = inputs((6, 2, 12), 4)
    out_THD = rotate(x_THD, cos_TP, sin_TP, start=2, interleaved=True)
    pairs_THP = torch.view_as_complex(x_THD.detach()[..., 2:10].unflatten(-1, (4, 2)).contiguous())
    turned_THP = pairs_THP * torch.complex(cos_TP, sin_TP).unsqueeze(1)
    torch.testing.assert_close(out_THD[..., 2:6], turned_THP.real)
    torch.testing.assert_close(out_THD[..., 6:10], turned_THP.imag)
    assert torch.equal(out_THD[..., :2], x_THD[..., :2])
    assert torch.equal(out_THD[..., 10:], x_THD[..., 10:])


def test_half_precision_stays_what_it_is():
    x_THD, cos_TP, sin_TP = inputs((3, 2, 8), 4)
    assert rotate(x_THD.bfloat16(), cos_TP, sin_TP, interleaved=False).dtype == torch.bfloat16
    with use(rotate="compiled"), pytest.raises(GodwitError, match="bfloat16 is not float32"):
        rotate(x_THD.bfloat16(), cos_TP, sin_TP, interleaved=False)


@pytest.mark.parametrize(
    ("tokens", "pairs", "start", "message"), [(4, 4, 0, "3 tokens take tables"), (3, 4, 1, "columns 1 to 9")]
)
def test_tables_that_do_not_fit_are_refused(tokens, pairs, start, message):
    table_TP = torch.ones(tokens, pairs)
    with pytest.raises(GodwitError, match=message):
        rotate(torch.zeros(3, 2, 8), table_TP, table_TP, start=start, interleaved=True)


def test_compiled_loops_leave_the_number_of_torch_threads_alone():
    """numba counts OpenMP's threads where torch does, and sets all cores when it starts."""
    program = """
import torch
torch.set_num_threads(1)
from godwit.ops.rotate import rotate
x = torch.randn(64, 2, 8)
rotate(x, torch.ones(64, 4), torch.ones(64, 4), interleaved=True)
from godwit.nn.step import _kernel
import numba
assert torch.get_num_threads() == numba.get_num_threads() == 1, (torch.get_num_threads(), numba.get_num_threads())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=240)
