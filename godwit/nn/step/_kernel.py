"""The compiled loops of a layer over a few tokens: latent attention over a cache, then experts or the gated MLP.

Equations are those of `godwit.nn.mla` (absorbed form), `indexer`, `moe` and `mlp`; `_grouped` has those of `gqa`. At
this size the time goes into reading weights once: each four rows of a matrix serve all tokens while they are at hand.

Shapes: x (T, D); see `godwit.nn.step.weights` for the rest.
"""

import numpy as np

from godwit.ops._numba import inner, njit, numba
from godwit.ops.index_topk_paged._kernel import select
from godwit.ops.sparse_mla._any_width import attend

FAST = {"contract", "reassoc", "nsz"}
LATENT_NORM_EPS = np.float32(1e-6)
INDEX_NORM_EPS = np.float32(1e-6)


@njit
def layer(x, latent, index, feed, place, pool, tiles, rows, num_runs, sparse):  # noqa: ANN001 (compiled: inferred)
    """Run a layer in place; `rows` (T, K) is what it attends to, filled first if it has an indexer and is `sparse`.

    False: the index keys hold NaN or Inf.
    """
    num_tokens, heads = x.shape[0], latent.kv_b.shape[0]
    normed = normalised(x, latent.norm, latent.eps)
    c_q = multiplied(latent.q_a, normed)
    add_bias(c_q, latent.q_a_bias)
    c_q = normalised(c_q, latent.q_a_norm, LATENT_NORM_EPS)
    q = np.zeros((num_tokens, heads, pool.shape[1]), np.float32)
    latents(normed, c_q, latent, place, pool, q)
    finite = choose(normed, c_q, index, place, tiles, rows, num_runs, sparse)
    latent_width = latent.kv_b.shape[2]
    out = np.empty((num_tokens, q.shape[1], latent_width), np.float32)
    attend(q, pool, rows, out, np.empty(q.shape[:2], np.float32))
    nope = latent.q_b.shape[0] // heads - (pool.shape[1] - latent_width)
    width = latent.kv_b.shape[1] - nope
    values = np.empty((num_tokens, heads * width), np.float32)
    for t in range(num_tokens):
        for h in range(heads):
            multiply(latent.kv_b[h, nope:], out[t, h : h + 1], values[t : t + 1, h * width : (h + 1) * width])
    projected = multiplied(latent.o, values)
    add_bias(projected, latent.o_bias)
    add(x, projected)
    add_feed_forward(x, feed)
    return finite


@njit
def joined(embedded, hidden, w):  # noqa: ANN001
    """What goes into a prediction layer (T, D), of tokens' embeddings and the states before them."""
    width = hidden.shape[1]
    both = np.empty((hidden.shape[0], 2 * width), np.float32)
    for t in range(hidden.shape[0]):
        normalise(embedded[t], w.enorm, w.eps, both[t, :width])
        normalise(hidden[t], w.hnorm, w.eps, both[t, width:])
    return multiplied(w.eh, both)


@inner
def latents(normed, c_q, w, place, pool, q):  # noqa: ANN001
    """Put the tokens' rows into the pool, and their absorbed queries, scaled, into `q` (T, H, W)."""
    heads, latent_width = w.kv_b.shape[0], w.kv_b.shape[2]
    kv = multiplied(w.kv_a, normed)
    add_bias(kv, w.kv_a_bias)
    wide = multiplied(w.q_b, c_q)
    width = wide.shape[1] // heads
    nope = width - (pool.shape[1] - latent_width)
    for t in range(normed.shape[0]):
        row, cos, sin = pool[place.row[t]], place.cos[t], place.sin[t]
        normalise(kv[t, :latent_width], w.kv_a_norm, LATENT_NORM_EPS, row[:latent_width])
        rotate_interleaved(kv[t, latent_width:], cos, sin, row[latent_width:])
        for h in range(heads):
            head = wide[t, h * width : (h + 1) * width]
            for d in range(width):
                head[d] *= w.scale
            add_rows(head[:nope], w.kv_b[h], q[t, h, :latent_width])
            rotate_interleaved(head[nope:], cos, sin, q[t, h, latent_width:])


@inner
def choose(normed, queries_from, w, place, tiles, rows, num_runs, sparse):  # noqa: ANN001
    """Keep index keys and, if `sparse`, fill `rows` (T, K), where the layer has an indexer; whether all are finite."""
    if w.wk.shape[0] == 0:
        return True
    finite = store_index_keys(normed, w, place, tiles)
    if sparse:
        q, weight = index_queries(normed, queries_from, w, place, tiles.shape[1])
        select(q, weight, tiles, place.page, place.table, place.document, place.visible, num_runs, rows)
    return finite


@inner
def store_index_keys(normed, w, place, tiles):  # noqa: ANN001
    """LayerNorm and rotation of the index keys, into their tiles; whether all are finite."""
    keys = multiplied(w.wk, normed)
    width, wide = keys.shape[1], tiles.shape[2]
    key, total = np.empty(width, np.float32), np.float32(0)
    for t in range(keys.shape[0]):
        mean = keys[t].mean()
        square = np.float32(0)
        for d in range(width):
            keys[t, d] -= mean
            square += keys[t, d] * keys[t, d]
        scale = np.float32(1) / np.sqrt(square / np.float32(width) + INDEX_NORM_EPS)
        for d in range(width):
            keys[t, d] = keys[t, d] * scale * w.k_weight[d] + w.k_bias[d]
        rotate_first(keys[t], place.cos[t], place.sin[t], w.interleaved, key)
        for d in range(width):
            tiles[place.row[t] // wide, d, place.row[t] % wide] = key[d]
            total += key[d]
    return np.isfinite(total)


@inner
def index_queries(normed, queries_from, w, place, padded):  # noqa: ANN001
    """Index queries (T, H, B) and head weights (T, H), as `select` wants them: heads even, zeros behind the width."""
    heads, width = w.weights.shape[0], w.wk.shape[0]
    wide, scale = multiplied(w.wq_b, queries_from), multiplied(w.weights, normed)
    even = heads + heads % 2
    q, weight = np.zeros((wide.shape[0], even, padded), np.float32), np.zeros((wide.shape[0], even), np.float32)
    for t in range(wide.shape[0]):
        for h in range(heads):
            head = wide[t, h * width : (h + 1) * width]
            rotate_first(head, place.cos[t], place.sin[t], w.interleaved, q[t, h, :width])
            weight[t, h] = scale[t, h] * w.scale
    return q, weight


@njit
def add_feed_forward(x, w):  # noqa: ANN001
    """x += routed experts + shared expert, or the gated MLP where there are no routed ones."""
    normed = normalised(x, w.norm, w.eps)
    if w.shared_gate.shape[0] > 0:
        gate, up = multiplied(w.shared_gate, normed), multiplied(w.shared_up, normed)
        for t in range(x.shape[0]):
            gated(gate[t], up[t], gate[t])
        add(x, multiplied(w.shared_down, gate))
    if w.router.shape[0] == 0:
        return
    score = multiplied(w.router, normed)
    width = w.down.shape[2]
    expert, weight = np.empty(w.num_chosen, np.int64), np.empty(w.num_chosen, np.float32)
    hidden, out = np.empty((1, 2 * width), np.float32), np.empty((1, x.shape[1]), np.float32)
    product = np.empty((1, width), np.float32)
    for t in range(x.shape[0]):
        route(score[t], w, expert, weight)
        for k in range(w.num_chosen):
            multiply(w.gate_up[expert[k]], normed[t : t + 1], hidden)
            gated(hidden[0, :width], hidden[0, width:], product[0])
            multiply(w.down[expert[k]], product, out)
            for d in range(x.shape[1]):
                x[t, d] += weight[k] * out[0, d]


@inner
def route(score, w, expert, weight):  # noqa: ANN001
    """The chosen experts and their weights, see `godwit.nn.moe.Gate`; the lower number of equals."""
    num = score.shape[0]
    choice = np.empty(num, np.float32)
    for e in range(num):
        score[e] = np.float32(1) / (np.float32(1) + np.exp(-score[e]))
        choice[e] = score[e] + w.bias[e]
    if w.num_groups > 1:
        size = num // w.num_groups
        best = np.empty(w.num_groups, np.float32)
        for g in range(w.num_groups):
            first, second = np.float32(-np.inf), np.float32(-np.inf)
            for e in range(g * size, (g + 1) * size):
                second = max(second, min(first, choice[e]))
                first = max(first, choice[e])
            best[g] = first + second
        for _ in range(w.num_groups - w.kept_groups):
            # The last of equals goes, as the first is chosen below.
            worst = w.num_groups - 1 - np.argmin(best[::-1])
            best[worst] = np.inf
            choice[worst * size : (worst + 1) * size] = -np.inf
    total = np.float32(0)
    for k in range(w.num_chosen):
        expert[k] = np.argmax(choice)
        choice[expert[k]] = -np.inf
        weight[k] = score[expert[k]]
        total += weight[k]
    factor = w.factor
    if w.normalised:
        factor /= total + np.float32(1e-20)
    for k in range(w.num_chosen):
        weight[k] *= factor


@njit(parallel=True)
def logits(normed, head, num_parts, out):  # noqa: ANN001
    """The output head, its rows divided among threads."""
    for part in numba.prange(num_parts):
        first, last = head.shape[0] * part // num_parts, head.shape[0] * (part + 1) // num_parts
        multiply(head[first:last], normed, out[:, first:last])


@inner
def multiplied(w, x):  # noqa: ANN001
    """x (T, D) times the transpose of w (R, D), `(T, R)`."""
    out = np.empty((x.shape[0], w.shape[0]), np.float32)
    multiply(w, x, out)
    return out


@inner(fastmath=FAST)
def multiply(w, x, out):  # noqa: ANN001
    """`multiplied` into `out`."""
    fours = w.shape[0] // 4 * 4
    for r in range(0, fours, 4):
        w0, w1, w2, w3 = w[r], w[r + 1], w[r + 2], w[r + 3]
        for t in range(x.shape[0]):
            a0, a1, a2, a3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for d in range(x.shape[1]):
                a0 += w0[d] * x[t, d]
                a1 += w1[d] * x[t, d]
                a2 += w2[d] * x[t, d]
                a3 += w3[d] * x[t, d]
            out[t, r], out[t, r + 1], out[t, r + 2], out[t, r + 3] = a0, a1, a2, a3
    for r in range(fours, w.shape[0]):
        for t in range(x.shape[0]):
            a = np.float32(0)
            for d in range(x.shape[1]):
                a += w[r, d] * x[t, d]
            out[t, r] = a


@inner(fastmath=FAST)
def add_rows(weight, rows, out):  # noqa: ANN001
    """out += sum_r weight[r] rows[r]."""
    fours = weight.shape[0] // 4 * 4
    for r in range(0, fours, 4):
        a0, a1, a2, a3 = weight[r], weight[r + 1], weight[r + 2], weight[r + 3]
        for d in range(out.shape[0]):
            out[d] += a0 * rows[r, d] + a1 * rows[r + 1, d] + a2 * rows[r + 2, d] + a3 * rows[r + 3, d]
    for r in range(fours, weight.shape[0]):
        for d in range(out.shape[0]):
            out[d] += weight[r] * rows[r, d]


@inner(fastmath=FAST)
def normalise(x, weight, eps, out):  # noqa: ANN001
    """RMSNorm of one row."""
    square = np.float32(0)
    for d in range(x.shape[0]):
        square += x[d] * x[d]
    scale = np.float32(1) / np.sqrt(square / np.float32(x.shape[0]) + eps)
    for d in range(x.shape[0]):
        out[d] = x[d] * scale * weight[d]


@njit
def normalised(x, weight, eps):  # noqa: ANN001
    """RMSNorm of all rows."""
    out = np.empty_like(x)
    for t in range(x.shape[0]):
        normalise(x[t], weight, eps, out[t])
    return out


@inner
def rotate_interleaved(x, cos, sin, out):  # noqa: ANN001
    """Pairs (0, 1), (2, 3), ...; first halves first, as `godwit.ops.rotate`."""
    half = cos.shape[0]
    for p in range(half):
        a, b = x[2 * p], x[2 * p + 1]
        out[p], out[half + p] = a * cos[p] - b * sin[p], b * cos[p] + a * sin[p]


@inner
def rotate_first(x, cos, sin, interleaved, out):  # noqa: ANN001
    """Rotate the first dimensions of an index vector in its layout and copy the others."""
    half = cos.shape[0]
    if interleaved:
        rotate_interleaved(x, cos, sin, out)
    else:
        for p in range(half):
            a, b = x[p], x[half + p]
            out[p], out[half + p] = a * cos[p] - b * sin[p], b * cos[p] + a * sin[p]
    for d in range(2 * half, x.shape[0]):
        out[d] = x[d]


@inner(fastmath=FAST)
def gated(gate, up, out):  # noqa: ANN001
    """silu(gate) * up."""
    for d in range(gate.shape[0]):
        out[d] = gate[d] / (np.float32(1) + np.exp(-gate[d])) * up[d]


@inner
def add(x, y):  # noqa: ANN001
    """x += y, both (T, D)."""
    for t in range(x.shape[0]):
        for d in range(x.shape[1]):
            x[t, d] += y[t, d]


@inner
def add_bias(x, bias):  # noqa: ANN001
    """x (T, D) += bias (D,); an empty bias is none."""
    if bias.shape[0] > 0:
        for t in range(x.shape[0]):
            for d in range(x.shape[1]):
                x[t, d] += bias[d]
