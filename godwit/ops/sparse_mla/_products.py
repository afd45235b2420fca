"""The two products of absorbed attention, four heads of one query at a time, all partial sums in registers.

A row's numbers, once loaded, serve four heads, a head's several rows or vectors. Rows are read where they lie.
"""

from numba import types

from godwit.ops._lanes import LANES, SUMS, ZERO, Emitter, int64, operation, pointer_and_shape

HEADS = 4
ROWS = SUMS // HEADS
# Rows that are asked for before their turn: they are scattered over memory, and the processor cannot foresee them.
AHEAD = 32
# float32 numbers of a cache line.
LINE = 16
# Rows must be whole multiples of it.
COLUMNS = LANES
# Vectors of columns that `add_rows` takes at a time; fewer where fewer are left.
SIDE = SUMS // HEADS


@operation
def dots(typing, q, i, h, c, place, r, first, count, p, fetch):  # noqa: ANN001 (numba passes its own types)
    """p[g, j] = q[i, h + g] . c[place[r, first + j]] for four heads, j < count; may take ROWS - 1 behind the last.

    Asks for the first `fetch` numbers of rows AHEAD further on in `place`.
    """
    integer = types.int64
    return types.void(q, integer, integer, c, place, integer, integer, integer, p, integer), _emit_dots


def _emit_dots(context, builder, signature, arguments):  # noqa: ANN001
    emit = Emitter(builder)
    arrays = [pointer_and_shape(context, builder, signature.args[n], arguments[n]) for n in (0, 3, 4, 8)]
    (all_q, (_, num_heads, width)), (c, _), (place, (_, listing)), (p, (_, room)) = arrays
    row = builder.add(builder.mul(arguments[1], num_heads), arguments[2])
    q = [emit.at(all_q, builder.mul(builder.add(row, int64(g)), width)) for g in range(HEADS)]
    listed = emit.at(place, builder.add(builder.mul(arguments[5], listing), arguments[6]))

    def some_rows(j, _):  # noqa: ANN001
        places = [emit.number(listed, builder.add(j, int64(r))) for r in range(ROWS)]
        rows = [emit.at(c, builder.mul(number, width)) for number in places]
        coming = [emit.number(listed, builder.add(j, int64(AHEAD + r))) for r in range(ROWS)]
        starts = [emit.at(c, builder.mul(number, width)) for number in coming]

        def fetch_line(d, _):  # noqa: ANN001
            for start in starts:
                emit.prefetch(emit.at(start, d))
            return []

        emit.loop(arguments[9], [], fetch_line, step=LINE)

        def add_width(d, sums):  # noqa: ANN001
            keys = [emit.load(emit.at(one, d)) for one in rows]
            queries = [emit.load(emit.at(one, d)) for one in q]
            return [
                emit.multiply_add(queries[g], keys[r], sums[g * ROWS + r]) for g in range(HEADS) for r in range(ROWS)
            ]

        sums = emit.totals(emit.loop(width, [ZERO] * (HEADS * ROWS), add_width, step=LANES))
        for g in range(HEADS):
            emit.store_part(sums, g * ROWS, ROWS, emit.at(p, builder.add(builder.mul(room, int64(g)), j)))
        return []

    emit.loop(arguments[7], [], some_rows, step=ROWS)
    return context.get_dummy_value()


@operation
def add_rows(typing, p, c, place, r, first, count, out, i, h):  # noqa: ANN001
    """out[i, h + g] += sum_j p[g, j] c[place[r, first + j], :C] for four heads, j < count; C in whole COLUMNS."""
    integer = types.int64
    return types.void(p, c, place, integer, integer, integer, out, integer, integer), _emit_add_rows


def _emit_add_rows(context, builder, signature, arguments):  # noqa: ANN001
    emit = Emitter(builder)
    arrays = [pointer_and_shape(context, builder, signature.args[n], arguments[n]) for n in (0, 1, 2, 6)]
    (p, (_, room)), (c, (_, width)), (place, (_, listing)), (all_out, (_, num_heads, latent)) = arrays
    row = builder.add(builder.mul(arguments[7], num_heads), arguments[8])
    out = [emit.at(all_out, builder.mul(builder.add(row, int64(g)), latent)) for g in range(HEADS)]
    weights = [emit.at(p, builder.mul(room, int64(g))) for g in range(HEADS)]
    listed = emit.at(place, builder.add(builder.mul(arguments[3], listing), arguments[4]))

    def columns(side):  # noqa: ANN001
        def add(d, _):  # noqa: ANN001
            targets = [emit.at(one, d) for one in out]
            start = [emit.load(target, v * LANES) for target in targets for v in range(side)]

            def add_row(j, sums):  # noqa: ANN001
                source = emit.at(c, builder.add(builder.mul(emit.number(listed, j), width), d))
                values = [emit.load(source, v * LANES) for v in range(side)]
                factors = [emit.splat(emit.number(weight, j)) for weight in weights]
                return [
                    emit.multiply_add(factors[g], values[v], sums[g * side + v])
                    for g in range(HEADS)
                    for v in range(side)
                ]

            sums = emit.loop(arguments[5], start, add_row)
            for g in range(HEADS):
                for v in range(side):
                    emit.store(sums[g * side + v], targets[g], v * LANES)
            return []

        return add

    done = int64(0)
    side = SIDE
    while side:
        size = int64(side * LANES)
        # Up to the last whole block of that many columns.
        stop = builder.mul(builder.sdiv(latent, size), size)
        emit.loop(stop, [], columns(side), start=done, step=side * LANES)
        done, side = stop, side // 2
    return context.get_dummy_value()
