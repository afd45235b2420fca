"""Extending sequences over a cache is the forward pass over the whole sequences, whatever the pieces they come in."""

import pytest
import torch

from godwit.base.errors import GodwitError
from godwit.models.decoder import Decoder
from godwit.models.step import CompiledStep
from godwit.nn.cache import Cache
from godwit.nn.indexer import TwoLevel, set_two_level
from godwit.nn.pages import PAGE, Sequence
from godwit.ops.backends import use
from tests.models.parity import spread_model

# Latent and grouped attention, dense and sparse, every layer its own indexer and shared ones.
KINDS = ["flash", "flash-direct-query", "glm45", "llama-31", "glm5", "glm52", "deepseek", "glm45-dsa", "qwen3-dsa"]
SPARSE = ["glm5", "glm52", "llama-dsa"]
TOPK = 24


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> Decoder:
    return spread_model(request.param)


def tokens(length: int, seed: int = 3) -> torch.Tensor:
    return torch.randint(0, 97, (length,), generator=torch.Generator().manual_seed(seed))


def in_pieces(model: Decoder, tokens_T: torch.Tensor, pieces: int | list[int], plan: str | None = None):
    """Logits of all tokens, and by layer the positions chosen for the tokens from index_topk on."""
    cache = model.new_cache(num_pages=-(-len(tokens_T) // PAGE), plan=plan)
    sequence, outputs = cache.open(), []
    for piece in tokens_T.split(pieces):
        outputs.append(model.extend(piece, cache, sequence, last=False, indices=True))
    assert sequence.length == len(tokens_T)
    layers = outputs[-1].indices.keys()
    chosen = {layer: [row for one in outputs for row in rows_from(one.indices, layer)] for layer in layers}
    return torch.cat([one.logits_SV for one in outputs]), chosen


def assert_same(chosen: dict[int, list[list[int]]], indices: dict[int, torch.Tensor]) -> None:
    """From the first token that sees more than index_topk on; the one before it may have been dense."""
    assert chosen.keys() == indices.keys()
    for layer, rows in chosen.items():
        expected = rows_from(indices, layer)[1:]
        assert expected and rows[-len(expected) :] == expected


def rows_from(indices: dict[int, torch.Tensor], layer: int) -> list[list[int]]:
    rows_TK = indices.get(layer, torch.zeros(0, TOPK, dtype=torch.int32))
    return [row for row in rows_TK.tolist() if -1 not in row]


@pytest.mark.parametrize("pieces", [300, 67, [1, 20, 1, 1, 2, 1, 200, 29, 1, 1, 3, 40]])
def test_pieces_of_every_size(model: Decoder, pieces: int | list[int]) -> None:
    """300 tokens: past index_topk and past the first page."""
    tokens_T = tokens(300)
    with torch.no_grad():
        whole = model(tokens_T)
    logits_TV, chosen = in_pieces(model, tokens_T, pieces)
    torch.testing.assert_close(logits_TV, whole.logits_TV, atol=1e-5, rtol=0)
    assert_same(chosen, whole.indices)


@pytest.mark.parametrize("case", SPARSE)
def test_prefill_then_decoding_crosses_index_topk_and_pages(case: str) -> None:
    model = spread_model(case)
    for prefix, length in ((TOPK - 3, TOPK + 4), (PAGE - 3, PAGE + 4)):
        tokens_T = tokens(length)
        with torch.no_grad():
            whole = model(tokens_T)
        logits_TV, chosen = in_pieces(model, tokens_T, [prefix] + [1] * (length - prefix))
        torch.testing.assert_close(logits_TV, whole.logits_TV, atol=1e-5, rtol=0)
        assert_same(chosen, whole.indices)


def test_ragged_batches_of_sequences_that_come_and_go(model: Decoder) -> None:
    """Pages of a closed sequence are taken over by the next, which sees nothing of it."""
    texts = [tokens(n, seed=n) for n in (270, 30, 7, 300)]
    with torch.no_grad():
        whole = [model(text).logits_TV for text in texts]
    cache = model.new_cache(num_pages=5)
    first, second, third = (cache.open() for _ in range(3))
    batch = [texts[0][:260], texts[1][:1], texts[2][:4]]
    got_SV = model.extend(torch.cat(batch), cache, [first, second, third], [260, 1, 4]).logits_SV
    assert_rows(got_SV, [whole[0][259], whole[1][0], whole[2][3]])
    got_TV = model.extend(torch.cat((texts[2][4:], texts[1][1:30])), cache, [third, second], [3, 29], last=False)
    assert_rows(got_TV.logits_SV, [*whole[2][4:7], *whole[1][1:30]])
    cache.close(third)
    fourth = cache.open()
    got_SV = model.extend(torch.cat((texts[0][260:261], texts[3][:299])), cache, [first, fourth], [1, 299]).logits_SV
    assert_rows(got_SV, [whole[0][260], whole[3][298]])
    got_SV = model.extend(torch.stack((texts[3][299], texts[0][261])), cache, [fourth, first]).logits_SV
    assert_rows(got_SV, [whole[3][299], whole[0][261]])


def assert_rows(got_SV: torch.Tensor, expected: list[torch.Tensor]) -> None:
    torch.testing.assert_close(got_SV, torch.stack(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ["glm5", "llama-dsa"])
def test_a_plan_given_with_the_cache_is_followed_and_saves_index_keys(case: str) -> None:
    model, tokens_T = spread_model(case), tokens(80)
    with torch.no_grad():
        whole, own = model(tokens_T, plan="FSSF"), model(tokens_T)
    for pieces in ([70, 1, 1, 8], [20] * 4):
        logits_TV, chosen = in_pieces(model, tokens_T, pieces, plan="FSSF")
        torch.testing.assert_close(logits_TV, whole.logits_TV, atol=1e-5, rtol=0)
        assert sorted(chosen) == [0, 3]
    assert not torch.allclose(whole.logits_TV, own.logits_TV, atol=1e-3)
    full, shared = model.new_cache(num_pages=1), model.new_cache(num_pages=1, plan="FSSF")
    assert [layer.tiles_MBW is not None for layer in shared.layers] == [True, False, False, True]
    assert full.bytes_per_token - shared.bytes_per_token == 2 * 4 * 16


@pytest.mark.parametrize("case", ["glm5", "glm45-dsa", "flash"])
def test_references_and_half_precision(case: str) -> None:
    model, tokens_T = spread_model(case), tokens(60)
    logits_TV, _ = in_pieces(model, tokens_T, [50, 1, 9])
    slow = dict.fromkeys(("attention", "sparse_attention", "sparse_mla", "index_topk", "index_topk_paged"), "reference")
    with use(**slow):
        again_TV, _ = in_pieces(model, tokens_T, [50, 1, 9])
    torch.testing.assert_close(again_TV, logits_TV, atol=1e-5, rtol=0)
    half = model.to(torch.bfloat16)
    half_TV, _ = in_pieces(half, tokens_T[:20], [15, 1, 4])
    with torch.no_grad():
        torch.testing.assert_close(half_TV, half(tokens_T[:20]).logits_TV, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("case", SPARSE)
def test_truncated_and_forked_sequences_go_on_as_if_nothing_had_been(case: str) -> None:
    model, tokens_T = spread_model(case), tokens(560)
    other_T = torch.cat((tokens_T[:530], tokens(30, seed=9)))
    with torch.no_grad():
        whole, other = model(tokens_T).logits_TV, model(other_T).logits_TV
    cache = model.new_cache(num_pages=4)
    sequence = cache.open()
    model.extend(other_T, cache, sequence)
    branch = cache.fork(sequence)
    assert branch.length == 2 * PAGE and cache.pages.num_free == 1
    cache.truncate(sequence, 530)
    assert_rows(model.extend(tokens_T[530:], cache, sequence).logits_SV, [whole[-1]])
    assert_rows(model.extend(other_T[512:], cache, branch).logits_SV, [other[-1]])
    cache.close(sequence)
    assert cache.pages.num_free == 1
    cache.close(branch)
    assert cache.pages.num_free == 4


def test_running_out_of_pages_changes_nothing(model: Decoder) -> None:
    cache = model.new_cache(num_pages=2)
    one, other = cache.open(), cache.open()
    model.extend(tokens(200), cache, one)
    with pytest.raises(GodwitError, match=r"the cache is full: 2 more pages .* and 1 of 2 are free"):
        model.extend(tokens(300), cache, [one, other], [250, 50])
    assert (one.length, other.length, cache.pages.num_free) == (200, 0, 1)
    model.extend(tokens(300), cache, one)
    cache.close(one)
    model.extend(tokens(2 * PAGE), cache, other)


def new_pair(model: Decoder) -> tuple[Cache, Sequence]:
    cache = model.new_cache(num_pages=1)
    return cache, cache.open()


def test_what_is_refused() -> None:
    model = spread_model("glm5")
    cache, sequence = new_pair(model)
    other = cache.open()
    for arguments, told in (
        ((tokens(3).float(), cache, sequence), "flat integer tensor"),
        ((tokens(3), cache, [sequence, other]), "3 tokens for 2 sequences: give query_seqlens"),
        ((tokens(3), cache, [sequence, other], [3, 0]), "1 token or more"),
        ((tokens(3), cache, [sequence, other], [1, 1]), "3 together"),
        ((tokens(2), cache, [sequence, sequence]), "stands twice"),
        ((tokens(0), cache, sequence), "1 token or more"),
    ):
        with pytest.raises(GodwitError, match=told):
            model.extend(*arguments)
    cache.close(other)
    with pytest.raises(GodwitError, match="was closed"):
        model.extend(tokens(1), cache, other)
    with pytest.raises(GodwitError, match="must begin with F"):
        model.new_cache(num_pages=1, plan="SFFF")
    with pytest.raises(GodwitError, match="nothing to share"):
        spread_model("flash").new_cache(num_pages=1, plan="FFFF")
    set_two_level(model, TwoLevel(block=16, num_blocks=4))
    with pytest.raises(GodwitError, match="cannot be searched in two levels"):
        model.extend(tokens(40), cache, sequence)


LATENT = ["flash", "flash-groups", "deepseek-v3", "glm5", "glm52", "deepseek"]
GROUPED = ["glm45", "glm45-air", "llama-bias", "llama-tied", "qwen3", "glm45-dsa", "llama-dsa", "qwen3-dsa"]


@pytest.mark.parametrize("case", LATENT + GROUPED)
def test_the_compiled_step_takes_models_of_both_attentions_and_equals_the_blocks(case: str) -> None:
    """Several tokens of two sequences at a time; asking for any backend by name leaves it out."""
    model, texts = spread_model(case), [tokens(60, seed=5), tokens(30, seed=6)]
    results = []
    for asked in ({}, {"experts": "reference"}):
        cache = model.new_cache(num_pages=2)
        pair, outputs = [cache.open(), cache.open()], []
        with use(**asked):
            model.extend(torch.cat((texts[0][:20], texts[1][:2])), cache, pair, [20, 2])
            for step in range(8):
                one, other = texts[0][20 + 5 * step :][:5], texts[1][2 + 2 * step :][:2]
                outputs.append(model.extend(torch.cat((one, other)), cache, pair, [5, 2], last=False).logits_SV)
        assert isinstance(cache.step, CompiledStep)
        assert cache.step.reason is None
        results.append(torch.cat(outputs))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0)
    assert not torch.equal(results[0], results[1])


@pytest.mark.parametrize(
    ("case", "heads", "groups"), [("glm5", n, n) for n in (1, 2, 3, 5, 6)] + [("qwen3", 5, 1), ("qwen3", 3, 3)]
)
def test_the_compiled_step_takes_any_number_of_heads(case: str, heads: int, groups: int) -> None:
    model = spread_model(case, num_attention_heads=heads, num_key_value_heads=groups)
    results = []
    for asked in ({}, {"experts": "reference"}):
        cache = model.new_cache(num_pages=1)
        sequence = cache.open()
        with use(**asked):
            outputs = [model.extend(tokens(18, seed=3)[step : step + 3], cache, sequence) for step in range(0, 18, 3)]
        results.append(torch.cat([output.logits_SV for output in outputs]))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0)


def test_weights_changed_in_place_are_seen_and_others_models_are_refused() -> None:
    model = spread_model("flash")
    cache, sequence = new_pair(model)
    before = model.extend(tokens(4), cache, sequence).logits_SV
    with torch.no_grad():
        model.model.layers[3].self_attn.o_proj.weight.mul_(2)
    cache.truncate(sequence, 0)
    after = model.extend(tokens(4), cache, sequence).logits_SV
    with torch.no_grad():
        torch.testing.assert_close(after[0], model(tokens(4)).logits_TV[-1], atol=1e-5, rtol=0)
    assert not torch.allclose(before, after, atol=1e-3)
    with pytest.raises(GodwitError, match="made for another model"):
        spread_model("flash").extend(tokens(1), cache, sequence)
    with pytest.raises(GodwitError, match="vocabulary"):
        model.extend(torch.tensor([97]), cache, sequence)


def test_what_has_no_compiled_step_says_so() -> None:
    model = spread_model("flash-direct-query")
    cache, sequence = new_pair(model)
    model.extend(tokens(3), cache, sequence)
    assert isinstance(cache.step, CompiledStep)
    assert "query latent" in str(cache.step.reason)


def test_nan_in_index_keys_is_told() -> None:
    model = spread_model("glm5")
    with torch.no_grad():
        model.model.layers[2].self_attn.indexer.k_norm.bias.fill_(float("nan"))
    cache, sequence = new_pair(model)
    with pytest.raises(GodwitError, match="index keys hold NaN"):
        model.extend(tokens(9), cache, sequence)
