"""Chosen ones of some neighbouring numbers, moved together: what selection does with the scores that it keeps.

Which are chosen is said by bits, one for each of PANEL neighbours. AVX-512 moves the chosen lanes of a vector to its
front in one operation; elsewhere the bits are gone through one by one.
"""

import numpy as np
from llvmlite import ir
from numba import types

from godwit.ops._lanes import INT32, INT64, LANES, SIDE, VECTOR, Emitter, int64, operation, pointer_and_shape
from godwit.ops._numba import inner

PANEL = LANES * SIDE
_MASK = ir.VectorType(ir.IntType(1), LANES)


@operation
def lowest(typing, bits):  # noqa: ANN001 (numba's own types)
    """Place of the lowest set bit of a uint64 that is not 0."""

    def emit(context, builder, signature, arguments):  # noqa: ANN001
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), emit


@operation
def number_of(typing, bits):  # noqa: ANN001
    """How many bits of a uint64 are set."""

    def emit(context, builder, signature, arguments):  # noqa: ANN001
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), emit


@operation
def reaching(typing, key, at, least):  # noqa: ANN001
    """Bits of those of `key[at : at + PANEL]` (int32) that are at least `least`."""
    return types.uint64(key, types.int64, types.int32), _emit_reaching


def _emit_reaching(context, builder, signature, arguments):  # noqa: ANN001
    emit = Emitter(builder)
    keys, _ = pointer_and_shape(context, builder, signature.args[0], arguments[0])
    # Vectors are loaded as float32; comparison takes the same bits as whole numbers.
    start = emit.at(builder.bitcast(keys, VECTOR.element.as_pointer()), arguments[1])
    whole = ir.VectorType(INT32, LANES)
    bar = builder.bitcast(emit.splat(builder.bitcast(arguments[2], VECTOR.element)), whole)
    vectors = [builder.bitcast(emit.load(start, v * LANES), whole) for v in range(SIDE)]
    return emit.bits([builder.icmp_signed(">=", vector, bar) for vector in vectors])


@operation
def _pack_lanes(typing, source, at, bits, target, slot, n):  # noqa: ANN001
    return types.int64(source, types.int64, types.uint64, target, types.int64, types.int64), _emit_pack


def _emit_pack(context, builder, signature, arguments):  # noqa: ANN001
    emit, pointer = Emitter(builder), VECTOR.element.as_pointer()
    source, _ = pointer_and_shape(context, builder, signature.args[0], arguments[0])
    target, (_, width) = pointer_and_shape(context, builder, signature.args[3], arguments[3])
    start = emit.at(builder.bitcast(source, pointer), arguments[1])
    row = emit.at(builder.bitcast(target, pointer), builder.mul(arguments[4], width))
    name = f"llvm.x86.avx512.mask.compress.v{LANES}f32"
    kind = ir.FunctionType(VECTOR, [VECTOR, VECTOR, _MASK])
    compress = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    nothing, n = ir.Constant(VECTOR, ir.Undefined), arguments[5]
    for v in range(SIDE):
        part = builder.trunc(builder.lshr(arguments[2], int64(v * LANES)), ir.IntType(LANES))
        chosen = builder.call(compress, [emit.load(start, v * LANES), nothing, builder.bitcast(part, _MASK)])
        # In place, this ends before what is still to be loaded: no more were kept than were looked at.
        emit.store(chosen, emit.at(row, n))
        n = builder.add(n, builder.zext(builder.ctpop(part), INT64))
    return n


@inner
def _pack_one_by_one(source, at, bits, target, slot, n):  # noqa: ANN001
    while bits:
        target[slot, n] = source[at + lowest(bits)]
        n += 1
        bits &= bits - np.uint64(1)
    return n


# Puts those of `source[at : at + PANEL]` whose bits are set to `target[slot, n:]`; returns the count behind them.
# Numbers have four bytes; both may be one memory if n is at most `at`. Up to PANEL numbers from n on are written.
pack = _pack_lanes if LANES == 16 else _pack_one_by_one


@inner
def seen(number):  # noqa: ANN001
    """Bits of the first `number` keys of a panel (at least 1; all 64 for more than there are)."""
    return np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(max(0, 64 - number))


@inner
def keep(fresh, here, above, score, place, slot, n):  # noqa: ANN001
    """Append those scores of a panel whose bits are set, and the positions `here`, to a row; returns its new count."""
    pack(fresh, 0, above, score, slot, n)
    return pack(here, 0, above, place, slot, n)


@inner
def number_panel(first, here):  # noqa: ANN001
    """Positions `first`, `first + 1`, ... into `here` (PANEL,)."""
    for c in range(PANEL):
        here[c] = first + c


@inner
def room_for(width):  # noqa: ANN001
    """Entries that a row keeps before it is cut back to `width`: whole panels; its memory has one more."""
    return (max(4 * width, 1024) + PANEL - 1) // PANEL * PANEL
