"""Blocks of work are done once each, whoever does them."""

import numpy as np
import pytest
import torch

from godwit.ops._numba import numba
from godwit.ops._share import blocks_left
from godwit.ops.context import AttnContext
from godwit.ops.index_topk import index_topk


@numba.njit(parallel=True)
def count(threads, num_blocks, done, own):
    taken = np.zeros(1, np.int64)
    for thread in numba.prange(threads):
        for block in blocks_left(taken, num_blocks):
            done[block] += 1
            own[thread] += 1


@pytest.mark.parametrize(("threads", "num_blocks"), [(1, 7), (2, 1), (2, 1000), (5, 1000), (3, 0)])
def test_every_block_is_done_once(threads: int, num_blocks: int) -> None:
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    done, own = np.zeros(num_blocks, np.int64), np.zeros(threads, np.int64)
    count(threads, num_blocks, done, own)
    assert (done == 1).all() and own.sum() == num_blocks


def test_a_selection_does_not_depend_on_the_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, w = (torch.randn(shape, generator=generator) for shape in ((700, 2, 8), (700, 8), (700, 2)))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            found.append(index_topk(q, k, w, AttnContext((500, 200), torch.device("cpu")), topk=40))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[1], found[2])
