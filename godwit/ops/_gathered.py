"""Products of one vector with rows that lie scattered over memory, all partial sums in registers.

What attention over a selection consists of: scores (`dots`) and weighted sums (`add_rows`). Rows are taken in groups;
places behind the last are read too, so lists of places and of weights go on for PAD entries, weights with zeros
(`_places`).
"""

from numba import types

from godwit.ops._lanes import LANES, ZERO, Emitter, int64, operation, pointer_and_shape, whole_vectors

# Rows of a group: as many sums hide the latency of a multiply-add, and as many addresses fit the registers.
GROUP = 8


@operation
def dots(typing, x, rows, place, n, scale, result):  # noqa: ANN001 (numba passes its own types)
    """result[j] = scale x . rows[place[j]], as many columns as x has, for j < n; may write PAD - 1 behind the n-th."""
    return types.void(x, rows, place, types.int64, types.float32, result), _emit_dots


def _emit_dots(context, builder, signature, arguments):  # noqa: ANN001
    emit, one = Emitter(builder), Emitter(builder, lanes=1)
    arrays = [pointer_and_shape(context, builder, signature.args[n], arguments[n]) for n in (0, 1, 2, 5)]
    (x, (width,)), (rows, (_, stride)), (place, _), (result, _) = arrays
    whole = whole_vectors(builder, width)
    scale = emit.splat(arguments[4])

    def group(j):  # noqa: ANN001
        """Sums by lanes of the products with rows j, j + 1, ...; columns behind the last whole vector in lane 0."""
        starts = [
            emit.at(rows, builder.mul(emit.number(place, builder.add(j, int64(r))), stride)) for r in range(GROUP)
        ]

        def add(lanes, d, sums):  # noqa: ANN001
            factor = lanes.load(emit.at(x, d))
            return [lanes.multiply_add(factor, lanes.load(emit.at(r, d)), s) for r, s in zip(starts, sums, strict=True)]

        sums = emit.loop(whole, [ZERO] * GROUP, lambda d, s: add(emit, d, s), step=LANES)
        rest = one.loop(width, [one.constant(0.0)] * GROUP, lambda d, s: add(one, d, s), start=whole)
        return [
            builder.insert_element(s, builder.fadd(builder.extract_element(s, int64(0)), _number(builder, r)), int64(0))
            for s, r in zip(sums, rest)
        ]

    def some(j, _):  # noqa: ANN001
        groups = [group(builder.add(j, int64(first))) for first in range(0, LANES, GROUP)]
        emit.store(builder.fmul(scale, emit.totals([s for sums in groups for s in sums])), emit.at(result, j))
        return []

    emit.loop(arguments[3], [], some, step=LANES)
    return context.get_dummy_value()


@operation
def add_rows(typing, weight, rows, place, n, result):  # noqa: ANN001
    """result += sum_j weight[j] rows[place[j]], of as many columns as result has; the weights behind the n-th are zero.

    Where n is a multiple of GROUP, none behind it is read.
    """
    return types.void(weight, rows, place, types.int64, result), _emit_add_rows


def _emit_add_rows(context, builder, signature, arguments):  # noqa: ANN001
    arrays = [pointer_and_shape(context, builder, signature.args[n], arguments[n]) for n in (0, 1, 2, 4)]
    (weight, _), (rows, (_, stride)), (place, _), (result, (width,)) = arrays
    done = int64(0)
    # As many columns at a time as there are left; the fewer, the more rows, so that always GROUP sums are at work.
    for lanes, side in ((LANES, 4), (LANES, 2), (LANES, 1), (1, 1)):
        emit, size = Emitter(builder, lanes), int64(side * lanes)
        stop = builder.mul(builder.sdiv(width, size), size)

        def columns(d, _, emit=emit, side=side):  # noqa: ANN001
            at_once = GROUP // side

            def add(j, sums):  # noqa: ANN001
                added = list(sums)
                for r in range(at_once):
                    number = builder.add(j, int64(r))
                    source = emit.at(rows, builder.add(builder.mul(emit.number(place, number), stride), d))
                    factor = emit.splat(emit.number(weight, number))
                    for v in range(side):
                        value = emit.load(source, v * emit.lanes)
                        added[r * side + v] = emit.multiply_add(factor, value, sums[r * side + v])
                return added

            sums = emit.loop(arguments[3], [emit.constant(0.0)] * GROUP, add, step=at_once)
            target = emit.at(result, d)
            for v in range(side):
                total = emit.load(target, v * emit.lanes)
                for part in sums[v::side]:
                    total = builder.fadd(total, part)
                emit.store(total, target, v * emit.lanes)
            return []

        emit.loop(stop, [], columns, start=done, step=side * lanes)
        done = stop
    return context.get_dummy_value()


def _number(builder, single):  # noqa: ANN001
    """The number of a vector of one."""
    return builder.extract_element(single, int64(0))
