"""The k best of some scores, in compiled loops that vectorise.

Scores are compared as integers that sort alike: all bits but the sign of negative floats flipped. The k-th largest is
built bit by bit, each time counting how many reach the candidate: 32 short passes without a branch, where a radix
selection spent most of its time on clearing and scanning its histograms.
"""

import numpy as np

from godwit.ops._numba import inner


@inner
def sortable(score, n, key):  # noqa: ANN001 (compiled: types are inferred)
    """`key` (int32) of the first n scores; it may be the same memory."""
    bits = score.view(np.int32)
    for s in range(n):
        x = bits[s]
        x ^= (x >> np.int32(31)) & np.int32(0x7FFFFFFF)
        # -0.0 and 0.0 are one score.
        key[s] = np.int32(0) if x == np.int32(-1) else x


@inner
def kth_largest(key, n, k):  # noqa: ANN001
    """The k-th largest of n keys; or, if there is one that exactly k keys reach, such a one."""
    kth = np.int32(-0x80000000)
    for step in range(32):
        # Setting the top bit takes the smallest number to 0, the others go up from there.
        candidate = np.int32(kth ^ (np.int32(1) << np.int32(31 - step)))
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
    """Keep the k best of n entries of a row, in order, equal ones from the left; returns the k-th best score."""
    sortable(score[slot], n, key)
    kth = kth_largest(key, n, k)
    above = np.int32(0)
    for s in range(n):
        above = np.int32(above + np.int32(key[s] > kth))
    room, kept = k - above, 0
    for s in range(n):
        # Written always and counted if it is one of them: no branch to mispredict.
        score[slot, kept] = score[slot, s]
        place[slot, kept] = place[slot, s]
        equal = (key[s] == kth) & (room > 0)
        room -= equal
        kept += (key[s] > kth) | equal
    least = score[slot, 0]
    for s in range(1, k):
        least = min(least, score[slot, s])
    return least
