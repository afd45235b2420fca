"""Work shared out among threads as they come: cores are seldom equally fast, and blocks of work seldom equally long.

numba gives each thread its part of a `prange` beforehand, so a loop ends when the slowest core does. Here each thread
takes the next block when it is done with one, and what blocks write into is made once a thread:

    taken = np.zeros(1, np.int64)
    for _ in numba.prange(threads):
        scratch = np.empty(...)
        for block in blocks_left(taken, num_blocks):
            ...

Which thread does a block must not matter to what it writes.
"""

from llvmlite import ir
from numba import types

from godwit.ops._lanes import INT64, operation, pointer_and_shape
from godwit.ops._numba import numba


@operation
def take(typing, counter):  # noqa: ANN001 (numba's own types)
    """The number in `counter` (1,), int64, which is one more for whoever asks next, in whichever thread."""

    def emit(context, builder, signature, arguments):  # noqa: ANN001
        place, _ = pointer_and_shape(context, builder, signature.args[0], arguments[0])
        return builder.atomic_rmw("add", place, ir.Constant(INT64, 1), "monotonic")

    return types.int64(counter), emit


# Not kept on disk by itself: numba cannot compile a caller of a generator that it has loaded.
@numba.njit
def blocks_left(taken, num_blocks):  # noqa: ANN001 (compiled: types are inferred)
    """Numbers below `num_blocks` that no thread has taken; `taken` (1,), int64, is common to all and begins at 0."""
    block = take(taken)
    while block < num_blocks:
        yield block
        block = take(taken)
