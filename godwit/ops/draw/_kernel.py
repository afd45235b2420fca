"""The compiled loops: a row's tokens are counted and summed by how likely they are, in steps of an eighth of an octave.

Tokens likelier than the step in which a cut falls are all kept, those behind it are not; only that step is sorted.

p (V,) float64; bits (V,) the same bytes as int64, which order positive numbers as their values do.
"""

import numpy as np

from godwit.ops._numba import numba

STEPS = 512  # 64 octaves; the last step holds all that is less likely still
ONE = np.int64(0x3FF0000000000000)  # the bits of 1.0
SHIFT = 49  # 52 bits of fraction, of which 3 count


@numba.njit(cache=True, nogil=True)
def draw_rows(p, bits, u, top_p, top_k, min_p, token, first, stop):  # noqa: ANN001 (compiled: inferred)
    """Draw for rows `first` to `stop`."""
    for row in range(first, stop):
        least, last = find_cut(p[row], bits[row], top_p[row], top_k[row], min_p[row])
        token[row] = invert(p[row], u[row], least, last)


@numba.njit(cache=True, parallel=True)
def draw_in_runs(p, bits, u, top_p, top_k, min_p, token, runs):  # noqa: ANN001
    """The same for all rows, divided among threads."""
    rows = p.shape[0]
    for run in numba.prange(runs):
        draw_rows(p, bits, u, top_p, top_k, min_p, token, rows * run // runs, rows * (run + 1) // runs)


def draw_all(p, bits, u, top_p, top_k, min_p, token, runs):  # noqa: ANN001
    """Fill `token` (B,)."""
    if runs == 1:
        draw_rows(p, bits, u, top_p, top_k, min_p, token, 0, p.shape[0])
    else:
        draw_in_runs(p, bits, u, top_p, top_k, min_p, token, runs)


@numba.njit(cache=True, nogil=True)
def find_cut(p, bits, top_p, top_k, min_p):  # noqa: ANN001
    """The least likely token that is kept: its p and its id; all above it are, and its equals of lower ids."""
    least, last = max(min_p, 5e-324), p.shape[0]
    if top_k <= 0 and top_p >= 1:
        return least, last
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
    if top_p < 1:
        whole = 0.0
        for step in range(STEPS):
            whole += sums[step]
        step, held = 0, 0.0
        while held + sums[step] < top_p * whole:
            held += sums[step]
            step += 1
        least, last, _ = narrow(p, bits, step, least, last, p.shape[0], top_p * whole - held)
    return least, last


@numba.njit(cache=True, nogil=True)
def step_of(bits):  # noqa: ANN001
    """0 for 1.0, more for less."""
    return min((ONE - bits) >> SHIFT, STEPS - 1)


@numba.njit(cache=True, nogil=True)
def narrow(p, bits, step, least, last, count, mass):  # noqa: ANN001
    """The cut moved into a step of which `count` tokens are kept, or as many as hold `mass`; and what they hold."""
    ids = np.array([i for i in range(p.shape[0]) if is_kept(p[i], i, least, last) and step_of(bits[i]) == step])
    order = np.argsort(-p[ids], kind="mergesort")  # stable: of equals the lower id first
    held = 0.0
    for place in range(min(count, len(order))):
        if held >= mass:
            break
        last = ids[order[place]]
        least = p[last]
        held += least
    return least, last, held


@numba.njit(cache=True, nogil=True)
def is_kept(value, i, least, last):  # noqa: ANN001
    """Whether token i, with p `value`, is on the near side of a cut."""
    return value > least or (value == least and i <= last)


@numba.njit(cache=True, nogil=True)
def invert(p, u, least, last):  # noqa: ANN001
    """The first kept token whose sum is above u of the whole, else the last kept one."""
    whole = 0.0
    for i in range(p.shape[0]):
        if is_kept(p[i], i, least, last):
            whole += p[i]
    held, token = 0.0, 0
    for i in range(p.shape[0]):
        if is_kept(p[i], i, least, last):
            token = i
            held += p[i]
            if held > u * whole:
                break
    return token
