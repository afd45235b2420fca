"""Softmax weights in compiled loops, with a maximum and an exponential that are vector work (numba's own are not)."""

import numpy as np
from numba import types

from godwit.ops._lanes import FLOAT, LANES, Emitter, int64, joined, operation, pointer_and_shape, whole_vectors
from godwit.ops._numba import njit

LOWEST = float(np.finfo(np.float32).min)


@operation
def largest(typing, x, n):  # noqa: ANN001 (numba passes its own types)
    """The largest of the first n of x, float32."""
    return types.float32(x, types.int64), _emit_largest


def _emit_largest(context, builder, signature, arguments):  # noqa: ANN001
    start, stop = pointer_and_shape(context, builder, signature.args[0], arguments[0])[0], arguments[1]
    wide, one = Emitter(builder), Emitter(builder, lanes=1)
    whole = whole_vectors(builder, stop)
    best = wide.loop(
        whole, [wide.constant(LOWEST)], lambda j, c: [wide.larger(wide.load(wide.at(start, j)), c[0])], step=LANES
    )[0]
    lanes = [one.splat(builder.extract_element(best, int64(lane))) for lane in range(LANES)]
    rest = one.loop(
        stop, [joined(lanes, one.larger)], lambda j, c: [one.larger(one.load(one.at(start, j)), c[0])], start=whole
    )
    return builder.extract_element(rest[0], int64(0))


@operation
def exponentials(typing, x, n, top):  # noqa: ANN001
    """Replace the first n of x by e^(x - top), those above `top` by 1; returns their sum, float32."""
    return types.float32(x, types.int64, types.float32), _emit_exponentials


def _emit_exponentials(context, builder, signature, arguments):  # noqa: ANN001
    start, stop = pointer_and_shape(context, builder, signature.args[0], arguments[0])[0], arguments[1]
    whole = whole_vectors(builder, stop)
    total = FLOAT(0.0)
    for emit, first, last in ((Emitter(builder), int64(0), whole), (Emitter(builder, lanes=1), whole, stop)):
        top = emit.splat(arguments[2])

        def replace(j, sums, emit=emit, top=top):  # noqa: ANN001
            target = emit.at(start, j)
            below = builder.fsub(emit.load(target), top)
            zero = emit.constant(0.0)
            # Not `larger`: what is no number stays so.
            power = emit.exponential(builder.select(builder.fcmp_ordered(">", below, zero), zero, below))
            emit.store(power, target)
            return [builder.fadd(sums[0], power)]

        sums = emit.loop(last, [emit.constant(0.0)], replace, start=first, step=emit.lanes)[0]
        lanes = [builder.extract_element(sums, int64(lane)) for lane in range(emit.lanes)]
        total = builder.fadd(total, joined(lanes, builder.fadd))
    return total


@njit
def softmax(x, n):  # noqa: ANN001
    """Turn the first n scores into weights in place; returns their log-sum-exp."""
    top = largest(x, n)
    total = exponentials(x, n, top)
    inverse = np.float32(1) / total
    for j in range(n):
        x[j] *= inverse
    return top + np.log(total)
