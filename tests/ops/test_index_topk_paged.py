"""Selection over pages is selection over the keys laid flat, bit for bit, wherever the pages lie."""

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.ops.attention import attention
from godwit.ops.backends import use
from godwit.ops.context import AttnContext
from godwit.ops.index_topk import index_topk
from godwit.ops.index_topk_paged import index_topk_paged, tile_width
from godwit.ops.sparse_attention import sparse_attention, sparse_attention_rows

PAGE = 256


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def paged(k_TD: torch.Tensor, lengths: tuple[int, ...]) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
    """Tiles on shuffled pages (others hold rubbish), tables, and the row of every token."""
    counts = [-(-length // PAGE) for length in lengths]
    order = torch.randperm(sum(counts) + 3, generator=torch.Generator().manual_seed(7))
    width = k_TD.shape[1] + -k_TD.shape[1] % 8
    wide = tile_width()
    tiles_MBW = torch.full((len(order) * PAGE // wide, width, wide), 99.0)
    tiles_MBW[:, k_TD.shape[1] :] = 0
    tables, rows, start = [], [], 0
    for length, table in zip(lengths, order[: sum(counts)].split(counts), strict=True):
        row = (table.unsqueeze(1) * PAGE + torch.arange(PAGE)).flatten()[:length]
        tiles_MBW[row // wide, : k_TD.shape[1], row % wide] = k_TD[start : start + length]
        tables.append(table)
        rows.append(row)
        start += length
    return tiles_MBW, tables, torch.cat(rows)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("topk", [1, 24, 300, 5000])
@pytest.mark.parametrize(
    ("backend", "new"),
    [
        *(("reference", new) for new in [(1,), (1, 0, 1, 1), (3, 0, 2, 1), (5, 0, 300, 40)]),
        *(("compiled", new) for new in [(1,), (1, 0, 1, 1), (3, 0, 2, 1)]),  # it takes few queries
    ],
)
def test_rows_are_those_of_the_flat_selection(
    backend: str, new: tuple[int, ...], topk: int, ties: bool, threads: int
) -> None:
    lengths = (2500, 40, 300, 256)[: len(new)]
    context = AttnContext(lengths, torch.device("cpu"))
    # Three heads of twelve: both are padded inside.
    q_QHD, k_TD, w_QH = randn(sum(new), 3, 12, seed=0), randn(sum(lengths), 12, seed=1), randn(sum(new), 3, seed=2)
    if ties:
        q_QHD, k_TD, w_QH = q_QHD.round().clamp(0, 1), k_TD.round().clamp(-1, 0), w_QH.round().clamp(-1, 1)
    tiles_MBW, tables, row_T = paged(k_TD, lengths)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with use(index_topk="compiled", index_topk_paged=backend):
            flat_QK = index_topk(q_QHD, k_TD, w_QH, context, topk=topk, query_seqlens=new)
            got_QK = index_topk_paged(q_QHD, tiles_MBW, w_QH, context, tables, page=PAGE, topk=topk, query_seqlens=new)
    finally:
        torch.set_num_threads(before)
    expected_QK = torch.where(flat_QK < 0, -1, row_T[flat_QK.clamp(min=0)])
    assert got_QK.dtype == torch.int32
    assert torch.equal(got_QK.long(), expected_QK)


def test_what_is_refused() -> None:
    context, wide = AttnContext((300,), torch.device("cpu")), tile_width()
    q_QHD, tiles_MBW, w_QH = torch.zeros(1, 2, 8), torch.zeros(2 * PAGE // wide, 8, wide), torch.zeros(1, 2)
    settings = {"page": PAGE, "topk": 4, "query_seqlens": (1,)}
    with pytest.raises(GodwitError, match=r"do not fit tables of \[1\] pages"):
        index_topk_paged(q_QHD, tiles_MBW, w_QH, context, [torch.tensor([0])], **settings)
    table = [torch.tensor([0, 1])]
    with pytest.raises(GodwitError, match="NaN"):
        index_topk_paged(q_QHD / 0, tiles_MBW, w_QH, context, table, **settings)
    with use(index_topk_paged="compiled"), pytest.raises(GodwitError, match="more than 16 queries"):
        many = torch.zeros(17, 2, 8), tiles_MBW, torch.zeros(17, 2)
        index_topk_paged(*many, context, table, **(settings | {"query_seqlens": (17,)}))


@pytest.mark.parametrize("backend", ["reference", "sdpa"])
@pytest.mark.parametrize("new", [(700, 0, 21), (1, 0, 1), (600, 0, 7), (0, 0, 3)])
def test_dense_attention_of_the_last_tokens_is_that_of_all(backend: str, new: tuple[int, ...]) -> None:
    lengths = (700, 0, 21)
    context = AttnContext(lengths, torch.device("cpu"))
    q, k, v = randn(721, 4, 8, seed=0), randn(721, 2, 8, seed=1), randn(721, 2, 5, seed=2)
    kept = torch.cat([torch.arange(700 - new[0], 700), torch.arange(721 - new[2], 721)])
    with use(attention="reference"):
        expected = attention(q.double(), k.double(), v.double(), context, scale=0.3)[kept]
    with use(attention=backend):
        got = attention(q[kept], k, v, context, scale=0.3, query_seqlens=new)
    torch.testing.assert_close(got.double(), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("backend", ["reference", "compiled"])
def test_sparse_attention_over_rows_needs_no_queries_among_them(backend: str) -> None:
    context = AttnContext((700, 21), torch.device("cpu"))
    q, k, v = randn(721, 4, 8, seed=0), randn(721, 2, 8, seed=1), randn(721, 2, 5, seed=2)
    index_TK = index_topk(randn(721, 2, 8, seed=3), k[:, 0], randn(721, 2, seed=4), context, topk=40)
    with use(sparse_attention="reference"):
        expected = sparse_attention(q, k, v, index_TK, context, scale=0.3).out_THE
    kept = torch.tensor([699, 3, 720])
    with use(sparse_attention=backend):
        got = sparse_attention_rows(q[kept], k, v, index_TK[kept], scale=0.3)
    torch.testing.assert_close(got, expected[kept], atol=1e-5, rtol=1e-4)
