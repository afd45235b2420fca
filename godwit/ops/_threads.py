"""Compiled loops use as many threads as torch does."""

import torch


def match_threads() -> int:
    """Tell numba; `torch.set_num_threads` may have changed since. Beyond what numba started with there are no more.

    Returns how many there are, for loops that share out their work themselves (`godwit.ops._share`).
    """
    from godwit.ops._numba import numba

    started = numba.config.NUMBA_NUM_THREADS  # pyrefly: ignore[missing-attribute]
    threads = min(torch.get_num_threads(), started)
    numba.set_num_threads(threads)
    return threads
