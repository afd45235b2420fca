"""numba, with its threads started and torch's number of them as it was, and the two ways in which loops are compiled.

    njit     loops that Python calls
    inner    loops that only compiled ones call: without the wrapper for Python. Called from Python, it crashes

Compiled loops are kept on disk; the first start of all is shorter without what nobody calls (the wrapper for C is in
neither): nano's first token came after 20.6 s instead of 26.8, part of it by sorts that went out of the loops.

Both count the threads of OpenMP in one place. numba sets that count to all cores when it starts its own, whatever
`torch.set_num_threads` said, and from then on torch used them all: with other programs on the machine every operation
waits for a thread that has no core (measured: 8 ms instead of 0.2 for a product of 2 MB).
"""

from functools import partial

import numba
import torch

from godwit.ops import _numba_cache

_WANTED = torch.get_num_threads()
numba.get_num_threads()  # starts them, now and not at the first compilation
torch.set_num_threads(_WANTED)
_numba_cache.install()

njit = partial(numba.njit, cache=True, no_cfunc_wrapper=True)
inner = partial(njit, no_cpython_wrapper=True)

__all__ = ["inner", "njit", "numba"]
