"""Compiled loops use as many threads as torch does."""

import torch


def match_threads() -> None:
    """Tell numba; `torch.set_num_threads` may have changed since. Beyond what numba started with there are no more."""
    from godwit.ops._numba import numba

    started = numba.config.NUMBA_NUM_THREADS  # pyrefly: ignore[missing-attribute]
    numba.set_num_threads(min(torch.get_num_threads(), started))
