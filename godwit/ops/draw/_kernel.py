"""The compiled loops: a row's tokens are counted and summed by how likely they are, in steps of an eighth of an octave.

Tokens likelier than the step in which a cut falls are all kept, those behind it are not; only that step is sorted.

z (V,) float32; p (V,) float64; bits (V,) the same bytes as int64, which order positive numbers as their values do.
"""

import numpy as np

from godwit.ops._numba import inner, njit, numba

STEPS = 512  # 64 octaves; the last step holds all that is less likely still
ONE = np.int64(0x3FF0000000000000)  # the bits of 1.0
SHIFT = 49  # 52 bits of fraction, of which 3 count
SMALLEST = 5e-324  # above 0
LOG2_E = 1.4426950408889634
# ln 2 in two parts: a whole number times the first is exact.
LN2_HIGH, LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(parallel=True)
def draw_in_runs(z, likeliest, how, token, runs):  # noqa: ANN001 (compiled: inferred)
    """Rows divided among so many threads; see `draw_rows`."""
    rows = z.shape[0]
    for run in numba.prange(runs):
        draw_rows(z, likeliest, how, token, rows * run // runs, rows * (run + 1) // runs)


@njit
def draw_rows(z, likeliest, how, token, start, stop):  # noqa: ANN001
    """Fill `token` (B,) from row `start` to `stop`; `likeliest` (B,) are ids, `how` is `Rows`."""
    temperature, u, top_p, top_k, min_p = how
    p, power = np.empty(z.shape[1]), np.empty(z.shape[1], np.int64)
    for row in range(start, stop):
        top = z[row, likeliest[row]]
        if not np.isfinite(top):
            token[row] = -1
        elif temperature[row] == 0:
            token[row] = likeliest[row]
        else:
            relative(z[row], top, temperature[row], p, power)
            least, last, whole = find_cut(p, p.view(np.int64), top_p[row], top_k[row], min_p[row])
            token[row] = invert(p, u[row] * whole, least, last)


@inner(fastmath={"contract"})
def relative(z, top, temperature, p, power):  # noqa: ANN001
    """p = exp((z - top) / temperature), to the last bits of float64, by an exponential that vectorises.

    e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2: the series for e^r up to r^13 / 13! (the next term is below
    1e-17), and 2^n by writing n into the exponent bits; `power` (int64) is scratch.
    """
    for i in range(z.shape[0]):
        # Below, p is no normal number; what is left of it makes no sum any larger.
        x = (np.float64(z[i]) - top) / temperature
        clipped = max(x, -708.0)
        n = np.floor(clipped * LOG2_E + 0.5)
        r = (clipped - n * LN2_HIGH) - n * LN2_LOW
        y = r / 6227020800 + 1 / 479001600
        y = y * r + 1 / 39916800
        y = y * r + 1 / 3628800
        y = y * r + 1 / 362880
        y = y * r + 1 / 40320
        y = y * r + 1 / 5040
        y = y * r + 1 / 720
        y = y * r + 1 / 120
        y = y * r + 1 / 24
        y = y * r + 1 / 6
        y = y * r + 1 / 2
        y = (y * r + 1) * r + 1
        p[i] = y if x > -708 else 0.0
        power[i] = (np.int64(np.int32(n)) + 1023) << 52
    scale = power.view(np.float64)
    for i in range(z.shape[0]):
        p[i] *= scale[i]


@inner
def find_cut(p, bits, top_p, top_k, min_p):  # noqa: ANN001
    """p and id of the least likely token kept (all above are, and its equals of lower ids), and the sum kept."""
    least, last = max(min_p, SMALLEST), p.shape[0]
    counts, sums = np.zeros(STEPS, np.int64), np.zeros(STEPS)
    for i in range(p.shape[0]):
        if p[i] >= least:
            step = step_of(bits[i])
            counts[step] += 1
            sums[step] += p[i]
    if 0 < top_k < counts.sum():
        step = 0
        while counts[step] < top_k:
            top_k -= counts[step]
            step += 1
        least, last, sums[step] = narrow(p, bits, step, least, last, top_k, np.inf)
        sums[step + 1 :] = 0
    whole = 0.0
    for step in range(STEPS):
        whole += sums[step]
    if top_p < 1:
        step, held = 0, 0.0
        while held + sums[step] < top_p * whole:
            held += sums[step]
            step += 1
        least, last, more = narrow(p, bits, step, least, last, p.shape[0], top_p * whole - held)
        whole = held + more
    return least, last, whole


@inner
def step_of(bits):  # noqa: ANN001
    """0 for 1.0, more for less."""
    return min((ONE - bits) >> SHIFT, STEPS - 1)


@inner
def narrow(p, bits, step, least, last, count, mass):  # noqa: ANN001
    """The cut moved into a step of which `count` tokens are kept, or as many as hold `mass`; and what they hold."""
    ids, num = np.empty(p.shape[0], np.int64), 0
    for i in range(p.shape[0]):
        if step_of(bits[i]) == step and is_kept(p[i], i, least, last):
            ids[num] = i
            num += 1
    # A heap: only those that are kept come out in order.
    for place in range(num // 2 - 1, -1, -1):
        sink(p, ids, place, num)
    held = 0.0
    while num > 0 and count > 0 and held < mass:
        last = ids[0]
        least = p[last]
        held += least
        num, count = num - 1, count - 1
        ids[0] = ids[num]
        sink(p, ids, 0, num)
    return least, last, held


@inner
def sink(p, ids, place, num):  # noqa: ANN001
    """Put `ids[place]` where it belongs in the heap of `num` ids; first are the likelier, of equals the lower id."""
    moved = ids[place]
    while 2 * place + 1 < num:
        child = 2 * place + 1
        if child + 1 < num and is_kept(p[ids[child + 1]], ids[child + 1], p[ids[child]], ids[child]):
            child += 1
        if not is_kept(p[ids[child]], ids[child], p[moved], moved):
            break
        ids[place] = ids[child]
        place = child
    ids[place] = moved


@inner
def is_kept(value, i, least, last):  # noqa: ANN001
    """Whether token i, with p `value`, is on the near side of a cut."""
    return value > least or (value == least and i <= last)


@inner
def invert(p, mass, least, last):  # noqa: ANN001
    """The first kept token up to which more than `mass` is kept, else the last kept one."""
    held, token = 0.0, 0
    for i in range(p.shape[0]):
        if is_kept(p[i], i, least, last):
            token = i
            held += p[i]
            if held > mass:
                break
    return token


@njit
def hashed(seed, place, u):  # noqa: ANN001
    """Two rounds of splitmix64, over seed and place (uint64), as numbers in [0, 1)."""
    for row in range(seed.shape[0]):
        state = mixed(mixed(seed[row]) + place[row] * GOLDEN)
        u[row] = np.float64(state >> np.uint64(11)) * 2.0**-53


@inner
def mixed(state):  # noqa: ANN001
    """A round."""
    state = state + GOLDEN
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
