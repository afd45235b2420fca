"""The contestants of the bench: one piece of work under dense attention, plain DSA, and plans that share.

A decoding round appends `steps` tokens, one at a time, and forgets them again; a chunk of a prefill is appended whole.
The cache before them holds random numbers: what lies there does not change what is computed, and filling it honestly
would cost a prefill a plan.

Letters: T tokens.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many

import torch

from godwit.models.decoder import Decoder
from godwit.models.extend import new_cache
from godwit.models.flops import indexer_of
from godwit.models.indexed import IndexedConfig
from godwit.nn.cache import Cache
from godwit.nn.indexer import Indexer
from godwit.nn.layer import DecoderLayer
from godwit.nn.pages import pages_for
from godwit.nn.share_plan import SharePlan

DENSE, DSA = "dense", "DSA"
LEAST = ""  # one indexer in the whole model
PREFILL, DECODE = "prefill", "decode"
METHODS = ("forward", "over_cache")  # what an indexer does in a forward pass, and over a cache

Sides = dict[str, Callable[[], object]]


def prefill_sides(model: Decoder, length: int, plans: Mapping[str, SharePlan], *, dense: bool, steps: int) -> Sides:
    """A whole document through the model, logits of its last token."""
    tokens_T = random_tokens(model, length)

    def run(plan: SharePlan | None, dense: bool) -> torch.Tensor:
        hidden_TD = model.features(tokens_T, model.context(tokens_T), plan=plan, dense=dense).hidden_TD
        return model.logits(hidden_TD[-1])

    sides: Sides = {DENSE: lambda: run(None, True)} if dense else {}
    sides[DSA] = lambda: run(None, False)
    return sides | {name: lambda plan=plan: run(plan, False) for name, plan in plans.items()}


def decode_sides(model: Decoder, length: int, plans: Mapping[str, SharePlan], *, dense: bool, steps: int) -> Sides:
    """`steps` tokens behind `length` others.

    One side more than asked for, with a single indexer, serves the sums: a compiled step has no seam to time one at.
    """
    plans = {LEAST: SharePlan("F" + "S" * (model.config.num_hidden_layers - 1))} | dict(plans)
    return {
        name: appending(run, cache, length, (1,) * steps)
        for name, (run, cache) in filled(model, length + steps, plans, dense=dense).items()
    }


def filled(
    model: Decoder, length: int, plans: Mapping[str, SharePlan], *, dense: bool
) -> dict[str, tuple[Decoder, Cache]]:
    """By side the model to run and a cache full of random numbers, with room for `length` tokens of one sequence."""
    found: dict[str, tuple[Decoder, SharePlan | None]] = {}
    if dense:
        # A selection of everything is dense attention; without a plan no index keys are kept.
        whole, config = copy.copy(model), model.config
        assert isinstance(config, IndexedConfig), "the bench is for models with indexers"
        whole.config = dataclasses.replace(config, index_topk=config.max_position_embeddings)
        found[DENSE] = whole, None
    own = model.config.plan
    assert own is not None, "the bench is for models with indexers"
    found |= {name: (model, plan) for name, plan in ({DSA: own} | dict(plans)).items()}
    return {name: (run, _random_cache(run, plan, length)) for name, (run, plan) in found.items()}


def _random_cache(model: Decoder, plan: SharePlan | None, length: int) -> Cache:
    cache = new_cache(model, plan, num_pages=pages_for(length))
    for layer in cache.layers:
        for pool in layer:
            if pool is not None:
                pool.normal_(0.0, 1.0, generator=torch.Generator(pool.device).manual_seed(0))
    return cache


def appending(model: Decoder, cache: Cache, before: int, chunks: Many[int]) -> Callable[[], object]:
    """Chunks of new tokens behind `before` others of a cache that is full of something; forgotten afterwards."""
    tokens_T = random_tokens(model, sum(chunks))

    def run() -> None:
        sequence = cache.open()
        cache.pages.reserve([sequence], [before])
        sequence.length = before
        for tokens in tokens_T.split(list(chunks)):
            model.extend(tokens, cache, sequence)
        cache.close(sequence)

    return run


def random_tokens(model: Decoder, length: int) -> torch.Tensor:
    """The same tokens every time."""
    generator = torch.Generator().manual_seed(1)
    tokens_T = torch.randint(0, model.config.vocab_size, (length,), generator=generator)
    return tokens_T.to(model.lm_head_weight.device)


def indexers_of(model: Decoder) -> dict[int, Indexer]:
    """Indexers by the number of their layer."""
    found = {}
    for number, layer in enumerate(model.decoder_layers()):
        assert isinstance(layer, DecoderLayer), type(layer)
        indexer = indexer_of(layer)
        if indexer is not None:
            found[number] = indexer
    return found


# Work -> what runs it, by side.
SIDES: dict[str, Callable[..., Sides]] = {PREFILL: prefill_sides, DECODE: decode_sides}
