"""Who runs in a step, with how many tokens, on which pages. Numbers only: no tensors, no model.

Choices stand in line by priority, then arrival. In a step, those that sample (one token each, and drafts) come first,
then prompts in chunks, then whoever waits and finds a seat and pages for all its tokens. When pages run out, the prefix
cache gives way; then the last in line gives up its pages and waits; its tokens are computed again later (recompute).
The first in line never gives way, and any request fits the cache alone, so there is always progress. Who begins with
the same pages as a prompt in work waits for it and shares them.

In deterministic mode a prompt's chunks are its pages, each computed alone, and what was sampled before a preemption
is computed again as it was, token by token. So a choice goes through the same numbers whatever else runs.
"""

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter

from godwit.engine.config import EngineConfig
from godwit.engine.prefix import PrefixCache, num_equal
from godwit.engine.request import Choice
from godwit.nn.cache import Cache
from godwit.nn.pages import PAGE, Sequence

# Of the line, in one step; so that a long line costs little.
LOOKED_AT = 256


@dataclass(eq=False)
class Work:
    """One choice's part in a step: `num_tokens` from where its cache ends, of which the last `num_drafts` are drafts.

    Attributes:
        start: where the choice's cache ends.
        samples: a token is sampled after it.
        short: sampled tokens (and the prompt's very last) rather than a piece of a prompt.
    """

    choice: Choice
    start: int
    num_tokens: int
    num_drafts: int
    samples: bool
    short: bool

    @classmethod
    def of(cls, choice: Choice, num_tokens: int, num_drafts: int) -> "Work":
        """The part that begins where the choice's cache ends."""
        short = choice.num_left == 1 or choice.num_computed >= len(choice.request.prompt_ids)
        samples = num_tokens - num_drafts == choice.num_left
        return cls(choice, choice.num_computed, num_tokens, num_drafts, samples, short)

    @property
    def wants_all(self) -> bool:
        """Whether logits of all its tokens are asked for: the prompt's log-probabilities, the first time."""
        asked = self.choice.request.params.prompt_logprobs is not None
        return asked and len(self.choice.prompt_logprobs) < len(self.choice.request.prompt_ids)


class Scheduler:
    """The line and the seats.

    Args:
        cache: of the model; the scheduler opens and closes its sequences.
        prefix: None: prompts share nothing.
        replay: in deterministic mode, sampled tokens that can be computed again in one call as they were one by one.
    """

    def __init__(self, cache: Cache, *, prefix: PrefixCache | None, config: EngineConfig, replay: int = 1):
        self.cache, self.prefix, self.config = cache, prefix, config
        self.waiting: list[Choice] = []
        self.running: list[Choice] = []
        self.replay = max(1, replay)
        self.preemptions = self.hit_tokens = self.query_tokens = 0

    def add(self, choice: Choice) -> None:
        """Stand in line."""
        insort(self.waiting, choice, key=attrgetter("order"))

    def remove(self, choice: Choice) -> None:
        """Leave, wherever it stands; its pages go back."""
        if choice.sequence is None:
            self.waiting.remove(choice)
        else:
            self._keep(choice)
            self._close(choice)

    def preempt(self, choice: Choice) -> None:
        """Back to the line, without pages."""
        self.preemptions += 1
        self._close(choice)
        choice.drafts.clear()
        self.add(choice)

    def schedule(self) -> list[Work]:
        """The step's work, for every choice room reserved; empty only if nobody is there."""
        works: dict[Choice, Work] = {}
        budget = self.config.max_num_batched_tokens
        # Samplers first: a long prompt must not hold them up. Stable, so the line's order stays within both.
        for choice in sorted(self.running, key=lambda one: one.num_left > 1):
            if choice.sequence is not None and budget > 0:
                budget -= self._extend(choice, budget, works)
        for choice in self._next_waiting():
            if budget <= 0 or not self._admit(choice, works):
                break
            budget -= self._extend(choice, budget, works)
        assert works or not (self.running or self.waiting), "the first in line always has room"
        return list(works.values())

    def prompt_done(self, choice: Choice) -> None:
        """Its prompt is in the cache: others may begin with it."""
        self._keep(choice)

    def _next_waiting(self) -> Iterator[Choice]:
        """The line, without those for whom somebody is computing a page now: a step later they share it."""
        for choice in list(self.waiting[:LOOKED_AT]):
            if not self._shares_soon(choice):
                yield choice

    def _shares_soon(self, choice: Choice) -> bool:
        """Whether a sibling, or a prompt of no lower priority that begins with the same pages, is being computed."""
        if self.prefix is None or choice.request.params.prompt_logprobs is not None:
            return False
        prompt, held = choice.request.prompt_ids, None
        for one in self.running:
            other = one.request.prompt_ids
            if one.num_computed >= len(other) or one.request.order[0] > choice.request.order[0]:
                continue
            if one.request is choice.request:
                return True
            if len(prompt) > PAGE and prompt[:PAGE] == other[:PAGE]:
                if held is None:
                    held = len(self.prefix.match(choice.token_ids, limit=len(prompt) - 1, partial=False).pages)
                end = (held + 1) * PAGE
                if end < len(prompt) and prompt[:end] == other[:end]:
                    return True
        return False

    def _extend(self, choice: Choice, budget: int, works: dict[Choice, Work]) -> int:
        """Reserve the choice's tokens of this step; how many of the budget they take (0: it had to give way)."""
        assert choice.sequence is not None, "it runs"
        num_tokens, num_drafts = self._num_tokens(choice, budget)
        missing = self.cache.pages.num_missing(choice.sequence, num_tokens)
        # Drafts are not worth a page that others have to give up.
        if num_drafts and missing > self._num_free(missing):
            num_tokens, num_drafts = num_tokens - num_drafts, 0
            missing = self.cache.pages.num_missing(choice.sequence, num_tokens)
        while missing > self._num_free(missing):
            last = self.running[-1]
            works.pop(last, None)
            self.preempt(last)
            if last is choice:
                return 0
        self.cache.pages.reserve([choice.sequence], [num_tokens])
        works[choice] = Work.of(choice, num_tokens, num_drafts)
        return num_tokens

    def _num_tokens(self, choice: Choice, budget: int) -> tuple[int, int]:
        """New tokens, drafts included, and drafts."""
        left = choice.num_left
        if left == 1:
            # The last token of a full-length text is never looked at.
            room = choice.request.max_length - len(choice.token_ids) - 1
            drafts = max(0, min(len(choice.drafts), room, budget - 1))
            return 1 + drafts, drafts
        if not self.config.deterministic:
            return min(left, budget), 0
        prompt_left = len(choice.request.prompt_ids) - choice.num_computed
        if prompt_left > 0:
            return min(prompt_left, PAGE - choice.num_computed % PAGE), 0
        return min(left, self.replay), 0

    def _admit(self, choice: Choice, works: dict[Choice, Work]) -> bool:
        """Give a waiting choice a seat and what the prefix cache has; False if there is no room for it yet."""
        if len(self.running) >= self.config.max_num_seqs and not self._unseat(choice, works):
            return False
        sequence = self._begin(choice)
        # Room for all its tokens and the next, or it would soon be the one to give way.
        missing = self.cache.pages.num_missing(sequence, len(choice.token_ids) - sequence.length + 1)
        while missing > self._num_free(missing):
            if not self._unseat(choice, works):
                self.cache.close(sequence)
                return False
        if not choice.started and self.prefix is not None:
            self.query_tokens += len(choice.token_ids)
            self.hit_tokens += sequence.length
            choice.num_cached = sequence.length
        choice.sequence, choice.started, choice.pure = sequence, True, True
        self.waiting.remove(choice)
        insort(self.running, choice, key=attrgetter("order"))
        return True

    def _unseat(self, choice: Choice, works: dict[Choice, Work]) -> bool:
        """Preempt the last in line if it is of a lower priority than the choice."""
        if not self.running or self.running[-1].request.order[0] <= choice.request.order[0]:
            return False
        last = self.running[-1]
        works.pop(last, None)
        self.preempt(last)
        return True

    def _begin(self, choice: Choice) -> Sequence:
        """A sequence with the pages that the prefix cache has for it."""
        # Log-probabilities of the prompt need all of it computed, and a next token needs one.
        if self.prefix is None or choice.request.params.prompt_logprobs is not None:
            return self.cache.open()
        limit = len(choice.token_ids) - 1
        if self.config.deterministic:
            limit = min(limit, len(choice.request.prompt_ids) - 1)
        found = self.prefix.match(choice.token_ids, limit=limit, partial=not self.config.deterministic)
        pages = found.pages
        sequence = self.cache.pages.adopt(pages)
        partial, count = found.partial, found.num_partial
        if not self.config.deterministic:
            rest = choice.token_ids[len(pages) * PAGE : min(limit, (len(pages) + 1) * PAGE)]
            partial, count = self._unfinished(rest, pages, partial, count)
        if partial is not None and self._num_free(1):
            self.cache.pages.reserve([sequence], [count])
            self.cache.copy_rows(partial, sequence.pages[-1], count)
            sequence.length += count
        return sequence

    def _unfinished(self, rest: list[int], pages: list[int], best: int | None, longest: int) -> tuple[int | None, int]:
        """The page behind `pages` with most rows for `rest`: the prefix cache's best, or a running choice's last."""
        for one in self.running:
            if one.pure and one.sequence is not None and one.sequence.pages[: len(pages)] == pages:
                start = len(pages) * PAGE
                equal = num_equal(rest, one.token_ids[start : min(start + PAGE, one.num_computed)])
                if equal > longest:
                    best, longest = one.sequence.pages[len(pages)], equal
        return best, longest

    def _num_free(self, wanted: int) -> int:
        """Free pages, after the prefix cache gave way as far as they are wanted."""
        pages = self.cache.pages
        if self.prefix is not None and wanted > pages.num_free:
            self.prefix.evict(wanted - pages.num_free)
        return pages.num_free

    def _keep(self, choice: Choice) -> None:
        """Hand the choice's full pages to the prefix cache, if all are of the present weights."""
        assert choice.sequence is not None, "it runs"
        if self.prefix is None or not choice.pure:
            return
        length = min(choice.sequence.length, len(choice.token_ids))
        if self.config.deterministic:
            length = min(length, len(choice.request.prompt_ids))
        self.prefix.insert(choice.token_ids, choice.sequence, length=length)

    def _close(self, choice: Choice) -> None:
        assert choice.sequence is not None, "it runs"
        self.cache.close(choice.sequence)
        choice.sequence = None
        self.running.remove(choice)
