"""The compiled loops of a layer with grouped-query attention, see `_kernel`; equations are those of `godwit.nn.gqa`.

Shapes: x (T, D), keys and values (G, N, A); see `godwit.nn.step.weights` for the rest.
"""

import numpy as np

from godwit.nn.step._kernel import (
    add,
    add_bias,
    add_feed_forward,
    choose,
    multiplied,
    normalise,
    normalised,
    rotate_first,
)
from godwit.ops._numba import inner, njit
from godwit.ops.sparse_attention._kernel import forward


@njit
def layer(x, w, index, feed, place, keys, values, tiles, rows, num_runs, sparse):  # noqa: ANN001 (compiled: inferred)
    """Run a layer in place; `rows` and what is returned are those of `_kernel.layer`."""
    normed = normalised(x, w.norm, w.eps)
    q = heads_of(normed, w.q, w.q_bias, w.q_norm, w.head_eps, keys.shape[2])
    k = heads_of(normed, w.k, w.k_bias, w.k_norm, w.head_eps, keys.shape[2])
    v = multiplied(w.v, normed)
    add_bias(v, w.v_bias)
    turned = np.empty_like(q)
    for t in range(x.shape[0]):
        cos, sin, row = place.cos[t], place.sin[t], place.row[t]
        for h in range(q.shape[1]):
            rotate_first(q[t, h], cos, sin, False, turned[t, h])
        for g in range(k.shape[1]):
            rotate_first(k[t, g], cos, sin, False, keys[g, row])
            values[g, row] = v[t, g * values.shape[2] : (g + 1) * values.shape[2]]
    finite = choose(normed, normed, index, place, tiles, rows, num_runs, sparse)
    out = np.empty((x.shape[0], q.shape[1], values.shape[2]), np.float32)
    # Few queries: there is a block of work for each key-value head, so no more threads find any.
    forward(keys.shape[0], turned, keys, values, rows, w.scale, out, np.empty(q.shape[:2], np.float32))
    projected = multiplied(w.o, out.reshape(x.shape[0], q.shape[1] * values.shape[2]))
    add_bias(projected, w.o_bias)
    add(x, projected)
    add_feed_forward(x, feed)
    return finite


@inner
def heads_of(normed, weight, bias, norm, eps, width):  # noqa: ANN001
    """A projection as heads (T, H, A), each behind its norm where there is one."""
    flat = multiplied(weight, normed)
    add_bias(flat, bias)
    heads = flat.reshape(normed.shape[0], weight.shape[0] // width, width)
    if norm.shape[0] > 0:
        for t in range(heads.shape[0]):
            for h in range(heads.shape[1]):
                normalise(heads[t, h], norm, eps, heads[t, h])
    return heads
