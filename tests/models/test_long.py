"""Documents of 4,096 and 16,384 tokens: fast operations against references, whole, in chunks and by single tokens.

The model is bench-nano (see benchmarks/) cut to two layers, one of them with experts; `index_topk` is 256.
"""

import pytest
import torch

from benchmarks.bench_nano import BENCH_NANO
from godwit.models.decoder import Decoder
from godwit.models.families import config_from_hf
from godwit.models.init import build
from godwit.nn.pages import pages_for
from godwit.ops.backends import use

TOPK = 256
BENCH_NANO_OF_TWO = BENCH_NANO | {"vocab_size": 512, "num_hidden_layers": 2}
REFERENCES = dict.fromkeys(("index_topk", "sparse_mla", "sparse_attention", "rotate", "experts"), "reference")


@pytest.fixture(scope="module")
def model() -> Decoder:
    return build(config_from_hf(BENCH_NANO_OF_TWO), seed=0).eval()


def document(length: int) -> torch.Tensor:
    return torch.randint(0, 512, (length,), generator=torch.Generator().manual_seed(length))


def shared(first_TK: torch.Tensor, second_TK: torch.Tensor) -> float:
    """The part of the first's positions that are the second's too."""
    length = int(first_TK.max()) + 1
    masks = []
    for index_TK in (first_TK, second_TK):
        mask_TL = torch.zeros(len(index_TK), length + 1, dtype=torch.bool)
        masks.append(mask_TL.scatter_(1, torch.where(index_TK < 0, length, index_TK).long(), True)[:, :length])
    return float((masks[0] & masks[1]).sum() / masks[0].sum())


@pytest.mark.slow
@pytest.mark.timeout(1800)  # the reference sorts every row of scores
@pytest.mark.parametrize("length", [4096, 16_384])
@torch.no_grad()
def test_fast_operations_give_what_their_references_give(model: Decoder, length: int) -> None:
    tokens_T = document(length)
    with use(**REFERENCES):
        expected = model(tokens_T)
    given = model(tokens_T, indices=expected.indices)
    torch.testing.assert_close(given.logits_TV, expected.logits_TV, atol=1e-5, rtol=0)
    # The first layer sees the same inputs but for rounding: at most near ties may differ.
    own = model(tokens_T)
    assert shared(own.indices[0], expected.indices[0]) > 1 - 1e-5
    assert shared(own.indices[1], expected.indices[1]) > 1 - 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("length", [4096, 16_384])
@torch.no_grad()
def test_chunks_and_single_tokens_select_what_the_whole_document_does(model: Decoder, length: int) -> None:
    tokens_T, single = document(length), 16
    expected = model(tokens_T)
    cache = model.new_cache(num_pages=pages_for(length))
    sequence, chosen = cache.open(), []
    for chunk_T in [*tokens_T[: length - single].split(1024), *tokens_T[length - single :].split(1)]:
        logits = model.extend(chunk_T, cache, sequence, indices=True)
        # Up to `index_topk` tokens nothing is chosen; here the first chunk is longer.
        chosen.append(logits.indices)
    for layer in (0, 1):
        index_TK = torch.cat([each[layer] for each in chosen])
        assert shared(index_TK, expected.indices[layer]) > 1 - 1e-4
    torch.testing.assert_close(logits.logits_SV[0], expected.logits_TV[-1], atol=1e-4, rtol=0)
