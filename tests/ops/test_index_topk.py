"""Selection beyond the parity matrix: chunks and single tokens choose what the whole document does; bad input."""

import math

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.ops.backends import use
from godwit.ops.context import AttnContext
from godwit.ops.index_topk import index_topk

CPU = torch.device("cpu")


def inputs(total: int, *, exact: bool) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    found = [torch.randn(*shape, generator=generator) for shape in ((total, 4, 32), (total, 32), (total, 4))]
    # Eighths of whole numbers have exact scores in float32.
    return tuple((tensor * 8).round().div(8) if exact else tensor for tensor in found)


@pytest.mark.parametrize("backend", ["reference", "threshold", "compiled"])
@pytest.mark.parametrize(("seen", "chunk"), [(1, 1), (257, 64), (700, 300), (530, 1)])
def test_chunks_and_single_tokens_select_what_the_whole_document_does(backend: str, seen: int, chunk: int) -> None:
    # `compiled` promises the same bits whatever the block; the others are given scores without rounding.
    q, k, w = inputs(791, exact=backend != "compiled")
    # Of the first and third document only the first tokens are there, and the last of them ask.
    present, asking = (seen, 1, min(seen, 90)), (chunk, 0, min(chunk, 90))
    keys_N = torch.cat([torch.arange(start, start + n) for start, n in zip((0, 700, 701), present, strict=True)])
    spans = [(start + n - m, start + n) for start, n, m in zip((0, 700, 701), present, asking, strict=True)]
    rows_N = torch.cat([torch.arange(*span) for span in spans])
    with use(index_topk=backend):
        whole_TK = index_topk(q, k, w, AttnContext((700, 1, 90), CPU), topk=40)
        got = index_topk(q[rows_N], k[keys_N], w[rows_N], AttnContext(present, CPU), topk=40, query_seqlens=asking)
    flat_QK = torch.cat((keys_N, torch.tensor([-1])))[got.long()]
    assert torch.equal(flat_QK, whole_TK[rows_N, : got.shape[1]].long())
    assert (whole_TK[rows_N, got.shape[1] :] == -1).all()


@pytest.mark.parametrize("topk", [3, 300])
def test_full_buffers_are_cut_without_losing_anything(topk: int) -> None:
    """Rising scores: every one beats the threshold, so the buffer fills again and again."""
    length = 3000
    k = torch.arange(length, dtype=torch.float32).unsqueeze(1)
    got = index_topk(torch.ones(length, 1, 1), k, torch.ones(length, 1), AttnContext.single(length), topk=topk)
    assert got[-1].tolist() == list(range(length - topk, length))
    assert got[1500].tolist() == list(range(1501 - topk, 1501))


@pytest.mark.parametrize("backend", ["reference", "threshold", "compiled"])
def test_equal_scores_everywhere_select_the_lowest_positions(backend: str) -> None:
    with use(index_topk=backend):
        got = index_topk(
            torch.ones(3000, 2, 4), -torch.ones(3000, 4), torch.ones(3000, 2), AttnContext.single(3000), topk=5
        )
    assert torch.equal(got[10:], torch.arange(5).int().expand(2990, -1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"topk": 0}, "at least 1, got 0"),
        ({"query_seqlens": (5, 4)}, "between 0 and the documents'"),
        ({"query_seqlens": (5,)}, "between 0 and the documents'"),
        ({"query_seqlens": (1, 1)}, "must have shapes"),
        ({"k_TD": torch.zeros(7, 4)}, "must have shapes"),
        ({"w_QH": torch.zeros(8, 1)}, "must have shapes"),
        ({"k_TD": torch.full((8, 4), math.nan)}, "NaN or Inf"),
    ],
)
def test_bad_input_is_answered(given: dict, message: str) -> None:
    arguments = {
        "q_QHD": torch.zeros(8, 2, 4),
        "k_TD": torch.zeros(8, 4),
        "w_QH": torch.zeros(8, 2),
        "topk": 2,
        **given,
    }
    with pytest.raises(GodwitError, match=message):
        index_topk(context=AttnContext((5, 3), CPU), **arguments)


LONG = 6000


def rows_of_scores(kind: str) -> tuple[torch.Tensor, ...]:
    """Queries, keys and weights of one head and one dimension: the score of key s is k[s], the same for all queries."""
    place_L = torch.arange(LONG, dtype=torch.float32)
    noise_L = torch.randn(LONG, generator=torch.Generator().manual_seed(0))
    score_L = {
        "equal": torch.ones(LONG),
        "rising": place_L + 1,
        "falling": LONG - place_L,
        "negative": -(noise_L.abs() + 1),
        "mostly zeros": noise_L.clamp(min=2.2) - 2.2,  # 1.4 % are not 0: fewer than 1 in 32, more than a row's k
        "few above zero": noise_L.clamp(min=2.6) - 2.6,  # fewer than k
        "sample too good": (place_L % 32 == 0) * (place_L + 1),  # what is sampled is nothing like the rest
        "sample too bad": (place_L % 32 != 0) * (place_L + 1),
        "one needle": (place_L == 4321) * 9.0,
    }[kind]
    # ReLU leaves positive products alone; the sign is the weight's.
    sign = -1.0 if kind == "negative" else 1.0
    return torch.ones(LONG, 1, 1), (score_L * sign).unsqueeze(1), torch.full((LONG, 1), sign)


@pytest.mark.parametrize("topk", [3, 64, 300])
@pytest.mark.parametrize(
    "kind",
    [
        "equal", "rising", "falling", "negative", "mostly zeros", "few above zero", "sample too good", "sample too bad",
        "one needle",
    ],
)  # fmt: skip
def test_a_wrong_guess_of_the_threshold_changes_nothing(kind: str, topk: int) -> None:
    q, k, w = rows_of_scores(kind)
    # The last rows are long enough to guess.
    mine, asking = slice(LONG - 700, LONG), (700,)
    results = []
    for backend in ("compiled", "reference"):
        with use(index_topk=backend):
            results.append(index_topk(q[mine], k, w[mine], AttnContext.single(LONG), topk=topk, query_seqlens=asking))
    assert torch.equal(*results)


def test_long_rows_with_guesses_select_the_same_alone_and_together() -> None:
    generator = torch.Generator().manual_seed(1)
    lengths = (4000, 0, 2500)
    q, k, w = (torch.randn(*shape, generator=generator) for shape in ((6500, 3, 10), (6500, 10), (6500, 3)))
    whole_TK = index_topk(q, k, w, AttnContext(lengths, CPU), topk=60)
    for row in (1999, 2000, 3456, 3999):
        seen = slice(0, row + 1)
        alone = index_topk(
            q[row : row + 1], k[seen], w[row : row + 1], AttnContext.single(row + 1), topk=60, query_seqlens=(1,)
        )
        assert torch.equal(alone[0], whole_TK[row])
    second = index_topk(q[4000:], k[4000:], w[4000:], AttnContext.single(2500), topk=60)
    assert torch.equal(torch.where(second < 0, -1, second + 4000), whole_TK[4000:])
