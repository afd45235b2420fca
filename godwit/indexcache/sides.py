"""The contestants of the bench: one piece of work under dense attention, plain DSA, and plans that share.

A decoding round appends `steps` tokens, one at a time, and forgets them again. The cache before them holds random
numbers: what lies there does not change what is computed, and filling it honestly would cost a prefill a plan.

Letters: T tokens.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping

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
    """`steps` tokens behind `length` others."""
    sides: Sides = {}
    if dense:
        # A selection of everything is dense attention; without a plan no index keys are kept.
        whole, config = copy.copy(model), model.config
        assert isinstance(config, IndexedConfig), "the bench is for models with indexers"
        whole.config = dataclasses.replace(config, index_topk=config.max_position_embeddings)
        sides[DENSE] = _decoding(whole, new_cache(whole, None, num_pages=pages_for(length + steps)), length, steps)
    own = model.config.plan
    assert own is not None, "the bench is for models with indexers"
    # Sides that are not asked for serve the sums: a compiled step has no seam at which indexers could be timed.
    least = SharePlan("F" + "S" * (len(own.pattern) - 1))
    for name, plan in ({DSA: own, LEAST: least} | dict(plans)).items():
        cache = new_cache(model, plan, num_pages=pages_for(length + steps))
        sides[name] = _decoding(model, cache, length, steps)
    return sides


def _decoding(model: Decoder, cache: Cache, length: int, steps: int) -> Callable[[], object]:
    for layer in cache.layers:
        for pool in layer:
            if pool is not None:
                pool.normal_(0.0, 1.0, generator=torch.Generator(pool.device).manual_seed(0))
    sequence = cache.open()
    cache.pages.reserve([sequence], [length])
    sequence.length = length
    tokens_T = random_tokens(model, steps)

    def run() -> None:
        for token in tokens_T.split(1):
            model.extend(token, cache, sequence)
        cache.truncate(sequence, length)

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
