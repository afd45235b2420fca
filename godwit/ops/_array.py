"""Tensors as compiled loops take them."""

import numpy as np
from torch import Tensor


def array(x: Tensor) -> np.ndarray:
    """The numbers of a CPU tensor, laid out row by row; they are copied only if they are not.

    Memory that numpy has seen cannot be resized, and FSDP empties and fills that of weights: give a clone of those.
    """
    return x.detach().contiguous().numpy()
