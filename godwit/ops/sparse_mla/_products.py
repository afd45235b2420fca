"""The two products of absorbed attention, a group of heads of one query at a time, all partial sums in registers.

A row's numbers, once loaded, serve the group, a head's several rows or vectors. Rows are read where they lie. A group
is four heads, or two where padding to four would be waste; loops are given a tuple of so many entries and are compiled
for its length.
"""

from numba import types

from godwit.ops._lanes import LANES, SUMS, ZERO, Emitter, int64, joined, operation, pointer_and_shape

GROUP = (0,) * 4
PAIR = (0,) * 2
# The most rows that either takes at a time, those of a pair.
ROWS = SUMS // len(PAIR)
# Rows must be whole multiples of it.
COLUMNS = LANES


def group_of(num_heads: int) -> tuple[int, ...]:
    """The group that needs fewer heads of padding; the larger of two that need as many."""
    return min(GROUP, PAIR, key=lambda group: -num_heads % len(group))


@operation
def dots(typing, q, i, h, c, place, r, first, count, p, at, group):  # noqa: ANN001 (numba's own types)
    """p[h + g, at + j] = q[i, h + g] . c[place[r, first + j]] for a group, j < count.

    May take ROWS - 1 behind the last.
    """
    integer = types.int64
    return types.void(q, integer, integer, c, place, *[integer] * 3, p, integer, group), _emit_dots


def _emit_dots(context, builder, signature, arguments):  # noqa: ANN001
    emit = Emitter(builder)
    arrays = [pointer_and_shape(context, builder, signature.args[n], arguments[n]) for n in (0, 3, 4, 8)]
    (all_q, (_, num_heads, width)), (c, _), (place, (_, listing)), (p, (_, room)) = arrays
    heads = signature.args[-1].count
    together = SUMS // heads
    row = builder.add(builder.mul(arguments[1], num_heads), arguments[2])
    q = [emit.at(all_q, builder.mul(builder.add(row, int64(g)), width)) for g in range(heads)]
    listed = emit.at(place, builder.add(builder.mul(arguments[5], listing), arguments[6]))
    scores = emit.at(p, builder.add(builder.mul(arguments[2], room), arguments[9]))

    def some_rows(j, _):  # noqa: ANN001
        places = [emit.number(listed, builder.add(j, int64(r))) for r in range(together)]
        rows = [emit.at(c, builder.mul(number, width)) for number in places]

        def add_width(d, sums):  # noqa: ANN001
            keys = [emit.load(emit.at(one, d)) for one in rows]
            queries = [emit.load(emit.at(one, d)) for one in q]
            return [
                emit.multiply_add(queries[g], keys[r], sums[g * together + r])
                for g in range(heads)
                for r in range(together)
            ]

        sums = emit.totals(emit.loop(width, [ZERO] * SUMS, add_width, step=LANES))
        for g in range(heads):
            emit.store_part(sums, g * together, together, emit.at(scores, builder.add(builder.mul(room, int64(g)), j)))
        return []

    emit.loop(arguments[7], [], some_rows, step=together)
    return context.get_dummy_value()


@operation
def add_rows(typing, p, at, c, place, r, first, count, out, i, h, group):  # noqa: ANN001
    """out[i, h + g] += sum_j p[h + g, at + j] c[place[r, first + j], :C] for a group, j < count; C in whole COLUMNS.

    May take ROWS - 1 behind the last, whose weights must be zero.
    """
    integer = types.int64
    return types.void(p, integer, c, place, *[integer] * 3, out, integer, integer, group), _emit_add_rows


def _emit_add_rows(context, builder, signature, arguments):  # noqa: ANN001
    emit = Emitter(builder)
    arrays = [pointer_and_shape(context, builder, signature.args[n], arguments[n]) for n in (0, 2, 3, 7)]
    (p, (_, room)), (c, (_, width)), (place, (_, listing)), (all_out, (_, num_heads, latent)) = arrays
    heads = signature.args[-1].count
    row = builder.add(builder.mul(arguments[8], num_heads), arguments[9])
    out = [emit.at(all_out, builder.mul(builder.add(row, int64(g)), latent)) for g in range(heads)]
    scores = emit.at(p, builder.add(builder.mul(arguments[9], room), arguments[1]))
    weights = [emit.at(scores, builder.mul(room, int64(g))) for g in range(heads)]
    listed = emit.at(place, builder.add(builder.mul(arguments[4], listing), arguments[5]))

    def columns(side):  # noqa: ANN001
        # The fewer columns, the more rows, so that always as many sums are at work.
        at_once = SUMS // (heads * side)

        def add(d, _):  # noqa: ANN001
            targets = [emit.at(one, d) for one in out]
            start = [emit.load(target, v * LANES) for target in targets for v in range(side)]

            def add_some(j, sums):  # noqa: ANN001
                added = []
                for r in range(at_once):
                    number = builder.add(j, int64(r))
                    source = emit.at(c, builder.add(builder.mul(emit.number(listed, number), width), d))
                    values = [emit.load(source, v * LANES) for v in range(side)]
                    factors = [emit.splat(emit.number(weight, number)) for weight in weights]
                    before = sums[r * heads * side : (r + 1) * heads * side]
                    added += [
                        emit.multiply_add(factors[g], values[v], before[g * side + v])
                        for g in range(heads)
                        for v in range(side)
                    ]
                return added

            sums = emit.loop(arguments[6], start + [ZERO] * (SUMS - len(start)), add_some, step=at_once)
            for n in range(heads * side):
                emit.store(joined(sums[n :: heads * side], builder.fadd), targets[n // side], n % side * LANES)
            return []

        return add

    done = int64(0)
    # Vectors of columns that are taken at a time; fewer where fewer are left.
    side = SUMS // heads
    while side:
        size = int64(side * LANES)
        # Up to the last whole block of that many columns.
        stop = builder.mul(builder.sdiv(latent, size), size)
        emit.loop(stop, [], columns(side), start=done, step=side * LANES)
        done, side = stop, side // 2
    return context.get_dummy_value()
