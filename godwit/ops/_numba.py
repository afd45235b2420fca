"""numba, with its threads started and torch's number of them as it was: compiled loops import it from here.

Both count the threads of OpenMP in one place. numba sets that count to all cores when it starts its own, whatever
`torch.set_num_threads` said, and from then on torch used them all: with other programs on the machine every operation
waits for a thread that has no core (measured: 8 ms instead of 0.2 for a product of 2 MB).
"""

import numba
import torch

_WANTED = torch.get_num_threads()
numba.get_num_threads()  # starts them, now and not at the first compilation
torch.set_num_threads(_WANTED)

__all__ = ["numba"]
