"""One step's calls of the decoder, and what comes back: logits to sample from, and states for the prediction layer.

On a CPU with a compiled step, samplers go through it in slices and prompts through the ordinary modules, for a mixed
call would take the slow way with all. Elsewhere everything is one call, which reads the weights once. In deterministic
mode a token's numbers may not depend on its company: prompts go alone; samplers go together where the compiled step
takes them (it treats every token alike, bit for bit), else alone too.

Letters: T new tokens of a call, R rows to sample at, V vocabulary, D hidden.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from godwit.engine.config import EngineConfig
from godwit.engine.scheduler import Work
from godwit.models.decoder import Decoder
from godwit.models.extend import step_of
from godwit.nn.cache import Cache


class Call(NamedTuple):
    """One call: its works, logits (of every new token, or of each work's last), and states of every new token."""

    works: list[Work]
    logits_RV: Tensor
    whole: bool
    hidden_TD: Tensor | None

    def logits_of(self, number: int) -> Tensor:
        """Logits of one work's new tokens (its last only, unless `whole`)."""
        if not self.whole:
            return self.logits_RV[number : number + 1]
        start = sum(work.num_tokens for work in self.works[:number])
        return self.logits_RV[start : start + self.works[number].num_tokens]


class Runner:
    """Calls a model over its cache."""

    def __init__(self, model: Decoder, *, cache: Cache, config: EngineConfig):
        self.model, self.cache, self.config = model, cache, config
        self.hidden = cache.mtp is not None

    def run(self, works: Sequence[Work]) -> list[Call]:
        """Compute all works' tokens; afterwards they are in the cache."""
        return [self._call(group) for group in self._groups(works)]

    @property
    def few(self) -> int:
        """Tokens that the compiled step takes at once; 0 without one."""
        return step_of(self.model, self.cache).most

    def _groups(self, works: Sequence[Work]) -> list[list[Work]]:
        few = self.few
        if not few:
            return [[work] for work in works] if self.config.deterministic else [list(works)]
        short = [work for work in works if work.short and work.num_tokens <= few]
        long = [work for work in works if not (work.short and work.num_tokens <= few)]
        groups, room = [], 0
        for work in short:
            if work.num_tokens > room:
                groups.append([])
                room = few
            groups[-1].append(work)
            room -= work.num_tokens
        if self.config.deterministic:
            return groups + [[work] for work in long]
        return groups + ([long] if long else [])

    def _call(self, works: list[Work]) -> Call:
        tokens: list[int] = []
        for work in works:
            choice = work.choice
            start, end = choice.num_computed, choice.num_computed + work.num_tokens
            tokens += (choice.token_ids + choice.drafts)[start:end] if work.num_drafts else choice.token_ids[start:end]
        whole = any(work.num_drafts or work.wants_all for work in works)
        sequences = [work.choice.sequence for work in works]
        output = self.model.extend(
            torch.tensor(tokens, device=self.model.lm_head_weight.device),
            self.cache,
            [sequence for sequence in sequences if sequence is not None],
            [work.num_tokens for work in works],
            last=not whole,
            hidden=self.hidden,
        )
        return Call(works, output.logits_SV, whole, output.hidden_TD)
