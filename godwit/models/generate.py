"""Sample continuations where there is no engine (in training): prompts in chunks, then one token of each at a time.

All prompts advance together over one cache, which holds them whole and is dropped at the end. No scheduling: prompts
neither wait for each other nor for room.

Letters: T tokens laid flat, B prompts still running, V vocabulary.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.base.seeds import derive_seed
from godwit.models.decoder import Decoder
from godwit.models.sampling import Draw, sample
from godwit.nn.cache import Cache
from godwit.nn.pages import Sequence as Cached
from godwit.nn.pages import pages_for

# Tokens of one prefill call: enough to fill matrix products, few enough to keep what a call computes in some MB.
CHUNK = 2048


@dataclass(frozen=True)
class Generation:
    """What one prompt led to: the new tokens (an end token included) and why they end."""

    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length"]


@torch.inference_mode()
def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    eos_token_ids: Iterable[int] = (),
) -> list[Generation]:
    """Continue each prompt (token ids) on its own; results in the order of `prompts`.

    Args:
        model: the decoder.
        prompts: non-empty token sequences; they are laid flat and do not see each other.
        max_new_tokens: upper number of new tokens; the model's `max_position_embeddings` bounds them too.
        temperature: 0 takes the likeliest token (the lower id of equals).
        top_p: sample from the smallest set of likeliest tokens that holds this probability.
        seed: draws depend on it, the prompt's place in the list and the step, and on nothing else.
        eos_token_ids: tokens after which a continuation is finished.

    Raises:
        GodwitError: an empty prompt, a token outside the vocabulary, sampling values outside their range, or a model
            that answers with NaN.
    """
    _check(model, prompts)
    _check_settings(max_new_tokens, temperature, top_p)
    ends = frozenset(eos_token_ids)
    device = model.lm_head_weight.device
    seeds = [derive_seed(seed, "generate", place) for place in range(len(prompts))]
    sequences = [list(prompt) for prompt in prompts]
    limits = [min(len(prompt) + max_new_tokens, model.config.max_position_embeddings) for prompt in prompts]
    running = [place for place in range(len(prompts)) if len(sequences[place]) < limits[place]]
    stopped = set[int]()
    if not running:
        return [Generation((), "length") for _ in prompts]
    # The last token of each is never looked at again.
    cache = model.new_cache(num_pages=sum(pages_for(limits[place] - 1) for place in running))
    cached = {place: cache.open() for place in running}
    logits_BV = prefill(model, cache, list(cached.values()), [sequences[place] for place in running])
    while running:
        counts = [len(sequences[place]) - len(prompts[place]) for place in running]
        draws = [Draw(temperature, seeds[place], count, top_p=top_p) for place, count in zip(running, counts)]
        for place, token in zip(running, sample(logits_BV.float().cpu(), draws), strict=True):
            sequences[place].append(token)
            if token in ends:
                stopped.add(place)
        running = [place for place in running if place not in stopped and len(sequences[place]) < limits[place]]
        if running:
            tokens_B = torch.tensor([sequences[place][-1] for place in running], device=device)
            logits_BV = model.extend(tokens_B, cache, [cached[place] for place in running]).logits_SV
    return [
        Generation(tuple(sequence[len(prompt) :]), "stop" if place in stopped else "length")
        for place, (prompt, sequence) in enumerate(zip(prompts, sequences, strict=True))
    ]


def prefill(
    model: Decoder, cache: Cache, sequences: Sequence[Cached], prompts: Sequence[Sequence[int]], *, chunk: int = CHUNK
) -> Tensor:
    """Extend sequences by their prompts, at most `chunk` tokens a call; logits (B, V) that follow each prompt."""
    device = model.lm_head_weight.device
    logits_V: dict[int, Tensor] = {}
    done = [0] * len(prompts)
    while len(logits_V) < len(prompts):
        room, counts = chunk, {}
        for place, prompt in enumerate(prompts):
            count = min(room, len(prompt) - done[place])
            if count:
                counts[place] = count
                room -= count
        tokens = [token for place, count in counts.items() for token in prompts[place][done[place] :][:count]]
        tokens_T = torch.tensor(tokens, device=device)
        output = model.extend(tokens_T, cache, [sequences[place] for place in counts], list(counts.values()))
        for place, row_V in zip(counts, output.logits_SV, strict=True):
            done[place] += counts[place]
            if done[place] == len(prompts[place]):
                logits_V[place] = row_V
    return torch.stack([logits_V[place] for place in range(len(prompts))])


def _check(model: Decoder, prompts: Sequence[Sequence[int]]) -> None:
    vocab_size = model.config.vocab_size
    for place, prompt in enumerate(prompts):
        if not prompt:
            raise GodwitError(f"prompt {place} is empty; start it with at least one token, e.g. the end-of-text token")
        wrong = [token for token in prompt if not 0 <= token < vocab_size]
        if wrong:
            raise GodwitError(f"prompt {place} has token {wrong[0]}; this model's vocabulary is 0 to {vocab_size - 1}")


def _check_settings(max_new_tokens: int, temperature: float, top_p: float) -> None:
    if max_new_tokens < 0:
        raise GodwitError(f"max_new_tokens is {max_new_tokens}; give 0 or more")
    if temperature < 0:
        raise GodwitError(f"temperature is {temperature}; give 0 (the likeliest token) or more")
    if not 0 < top_p <= 1:
        raise GodwitError(f"top_p is {top_p}; give more than 0 and at most 1 (all tokens)")
