"""Index scores of one query against a panel of neighbouring keys, all partial sums in registers.

Keys lie in panels (D, PANEL), so that the scores of PANEL neighbours are vector work. Some heads go over a panel at a
time; their products are summed over D in order, then heads in order: a score is the same bits in whatever panel, block
or call it is computed.
"""

from functools import partial

from numba import types

from godwit.ops._lanes import LANES, SIDE, SUMS, ZERO, Emitter, int64, operation, pointer_and_shape
from godwit.ops.index_topk._pack import PANEL

# Heads that go over a panel together; what is left of them goes in pairs.
HEADS, PAIR = SUMS // SIDE, 2


@operation
def score_panel(typing, q, w, row, panels, t, threshold, score):  # noqa: ANN001 (numba's own types)
    """`score` (PANEL,) = sum_h w[row, h] ReLU(q[row, h] . panels[t]); returns the bits of those above `threshold`.

    q (Q, H, D), H even; panels (N, D, PANEL). Above means: not at most, so a threshold that is no number keeps all.
    Whole arrays and numbers, because numba counts references of every slice that it makes.
    """
    return types.uint64(q, w, types.int64, panels, types.int64, types.float32, score), _emit_scores


def _emit_scores(context, builder, signature, arguments):  # noqa: ANN001
    emit = Emitter(builder)
    arrays = [pointer_and_shape(context, builder, signature.args[n], arguments[n]) for n in (0, 1, 3, 6)]
    (all_q, (_, num_heads, depth)), (all_w, _), (panels, _), (score, _) = arrays
    q = emit.at(all_q, builder.mul(arguments[2], builder.mul(num_heads, depth)))
    w = emit.at(all_w, builder.mul(arguments[2], num_heads))
    panel = emit.at(panels, builder.mul(arguments[4], builder.mul(depth, int64(PANEL))))

    def add_heads(h, scores, together):  # noqa: ANN001
        rows = [emit.at(q, builder.mul(builder.add(h, int64(m)), depth)) for m in range(together)]

        def add_depth(d, sums):  # noqa: ANN001
            line = emit.at(panel, builder.mul(d, int64(PANEL)))
            keys = [emit.load(line, v * LANES) for v in range(SIDE)]
            factors = [emit.splat(emit.number(row, d)) for row in rows]
            return [
                emit.multiply_add(factors[m], keys[v], sums[m * SIDE + v]) for m in range(together) for v in range(SIDE)
            ]

        sums = emit.loop(depth, [ZERO] * (together * SIDE), add_depth)
        for m in range(together):
            factor = emit.splat(emit.number(w, builder.add(h, int64(m))))
            for v in range(SIDE):
                product = sums[m * SIDE + v]
                scores[v] = emit.multiply_add(factor, emit.larger(product, ZERO), scores[v])
        return scores

    most = builder.and_(num_heads, int64(-HEADS))
    scores = emit.loop(most, [ZERO] * SIDE, partial(add_heads, together=HEADS), step=HEADS)
    if HEADS > PAIR:
        scores = emit.loop(num_heads, scores, partial(add_heads, together=PAIR), start=most, step=PAIR)
    for v in range(SIDE):
        emit.store(scores[v], score, v * LANES)
    bar = emit.splat(arguments[5])
    return emit.bits([builder.fcmp_unordered(">", vector, bar) for vector in scores])
