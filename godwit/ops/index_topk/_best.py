"""The k best of some scores, in compiled loops that vectorise.

Scores are compared as integers that sort alike: all bits but the sign of negative floats flipped. The k-th largest is
built bit by bit, each time counting how many reach the candidate: at most 32 short passes without a branch, where a
radix selection spent most of its time on clearing and scanning its histograms.
"""

import numpy as np

from godwit.ops._numba import inner
from godwit.ops.index_topk._pack import PANEL, number_of, pack, reaching, seen


@inner
def sortable(score, n, key):  # noqa: ANN001 (compiled: types are inferred)
    """`key` (int32) of the first n scores; it may be the same memory."""
    bits = score.view(np.int32)
    for s in range(n):
        x = turned(bits[s])
        # -0.0 and 0.0 are one score.
        key[s] = np.int32(0) if x == np.int32(-1) else x


@inner
def kth_largest(key, n, k):  # noqa: ANN001
    """The k-th largest of n keys; or, if there is one that exactly k keys reach, such a one."""
    low, high = key[0], key[0]
    for s in range(n):
        low, high = min(low, key[s]), max(high, key[s])
    kth, top = np.int32(-0x80000000), 31
    if low ^ high >= 0:
        # The bits that all keys begin with need no count: what was kept lies close together.
        while top >= 0 and not (low ^ high) >> top & 1:
            top -= 1
        kth = high & np.int32(-1 << (top + 1)) if top < 31 else high
    for bit in range(top, -1, -1):
        # Setting the top bit takes the smallest number to 0, the others go up from there.
        candidate = np.int32(kth ^ (np.int32(1) << np.int32(bit)))
        # As int32, or the count would widen every comparison to 64 bits.
        count = np.int32(0)
        for s in range(n):
            count = np.int32(count + np.int32(key[s] >= candidate))
        if count >= k:
            kth = candidate
            if count == k:
                break
    return kth


@inner
def cut(score, place, slot, n, k, key):  # noqa: ANN001
    """Keep the k best of n entries of a row, in order, equal ones from the left; returns the k-th best score.

    All three have room for n entries in whole panels.
    """
    row_score, row_place = score[slot], place[slot]
    sortable(row_score, n, key)
    kth = kth_largest(key, n, k)
    above, least = np.int32(0), np.int32(0x7FFFFFFF)
    for s in range(n):
        above = np.int32(above + np.int32(key[s] > kth))
        least = min(least, key[s] if key[s] >= kth else np.int32(0x7FFFFFFF))
    room, kept = np.int64(k - above), 0
    for at in range(0, n, PANEL):
        reached = reaching(key, at, kth) & seen(n - at)
        better = reaching(key, at, kth + np.int32(1)) & reached
        equal = reached & ~better
        if number_of(equal) > room:
            beyond = equal
            for _ in range(room):
                beyond &= beyond - np.uint64(1)
            equal ^= beyond
        room -= number_of(equal)
        pack(row_score, at, better | equal, score, slot, kept)
        kept = pack(row_place, at, better | equal, place, slot, kept)
    return score_of(least, key)


@inner
def turned(bits):  # noqa: ANN001
    """A key (int32) from the bits of a score, and back."""
    return bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))


@inner
def score_of(least, key):  # noqa: ANN001
    """The score that a key stands for; it goes through the memory of `key` (int32)."""
    key[0] = turned(least)
    return key.view(np.float32)[0]
