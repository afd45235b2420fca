"""What the Triton backends have in common on the side of the host: when they may run, and how they cut their tiles.

On a GPU they stand first in each operation's order. On a CPU they run only under Triton's interpreter
(`TRITON_INTERPRET=1`, set before the first use) and only when asked for by name: that is for tests, not for speed.
Each product is accumulated in float32; float32 inputs are multiplied without TF32's rounding, so slowly.
"""

import importlib.util
from typing import NamedTuple

import torch
from torch import Tensor

from godwit.ops.backends import asked_for

# The tensor cores' smallest matrix side; shorter ones are padded with masked zeros.
MIN_SIDE = 16


def why_not(op: str, *tensors: Tensor) -> str | None:
    """The reason the Triton backend of `op` cannot take these floating-point tensors, or None."""
    device = tensors[0].device.type
    if device not in ("cuda", "cpu"):
        return f"device {device} is no CUDA device"
    if device == "cpu" and asked_for(op) != "triton":
        return "device cpu is no CUDA device"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed; pip install 'godwit[gpu]'"
    interpreted = _interpreted()
    if device == "cpu" and not interpreted:
        return "device cpu is no CUDA device, and Triton's interpreter is off (TRITON_INTERPRET=1 turns it on, slowly)"
    for tensor in tensors:
        if torch.promote_types(tensor.dtype, torch.float32) != torch.float32:
            return f"dtype {tensor.dtype} is wider than float32"
        if interpreted and tensor.dtype == torch.bfloat16:
            return "Triton's interpreter multiplies bfloat16 wrongly; give float32"
    return None


def _interpreted() -> bool:
    from triton import knobs

    return bool(knobs.runtime.interpret)


def side(length: int) -> int:
    """Length of a tile's side that holds `length`: a power of two that the tensor cores take."""
    return max(MIN_SIDE, power_of_two(length))


def power_of_two(length: int) -> int:
    """The smallest power of two that is at least `length`."""
    return 1 << max(0, length - 1).bit_length()


def common(*tensors: Tensor) -> list[Tensor]:
    """Contiguous, in the one dtype that holds all of theirs, as a matrix product wants its operands."""
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return [tensor.detach().to(dtype).contiguous() for tensor in tensors]


class Split(NamedTuple):
    """A width cut into a main part and what is left of it, with the power-of-two sides that hold them (0: no rest)."""

    main: int
    main_side: int
    rest: int
    rest_side: int


def split(width: int, main: int | None = None) -> Split:
    """Cut at `main`, or at the largest power of two: 576 becomes 512 and 64, where one side would have to be 1024."""
    if main is None:
        main = max(MIN_SIDE, power_of_two(width + 1) // 2)
        main = width if main >= width else main
    rest = width - main
    return Split(main, side(main), rest, side(rest) if rest else 0)
