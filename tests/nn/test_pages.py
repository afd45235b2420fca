"""Bookkeeping of pages: nothing is lost, given twice or freed while somebody uses it, whatever order things come in."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from godwit.base.errors import GodwitError
from godwit.nn.pages import PAGE, Pages, Sequence, pages_for

NUM_PAGES = 9


class Bookkeeping(RuleBasedStateMachine):
    """Every sequence writes its own name and position into its pages; nobody else may ever overwrite it."""

    sequences = Bundle("sequences")

    def __init__(self) -> None:
        super().__init__()
        self.pages = Pages(NUM_PAGES)
        self.open: list[Sequence] = []
        self.written: dict[tuple[int, int], int] = {}  # (page, place) -> token
        self.expected: dict[int, list[int]] = {}  # id of a sequence -> its tokens
        self.next_token = 0

    def join(self, sequence: Sequence, tokens: list[int]) -> Sequence:
        self.open.append(sequence)
        self.expected[id(sequence)] = tokens
        return sequence

    @rule(target=sequences)
    def start(self) -> Sequence:
        return self.join(self.pages.open(), [])

    @rule(sequence=sequences, count=st.integers(1, 3 * PAGE))
    def append(self, sequence: Sequence, count: int) -> None:
        before = (list(sequence.pages), self.pages.num_free)
        fits = Pages.num_missing(sequence, count) <= self.pages.num_free
        if not fits:
            with pytest.raises(GodwitError, match="the cache is full"):
                self.pages.reserve([sequence], [count])
            assert before == (sequence.pages, self.pages.num_free)
            return
        self.pages.reserve([sequence], [count])
        for place in range(sequence.length, sequence.length + count):
            self.written[sequence.pages[place // PAGE], place % PAGE] = self.next_token
            self.expected[id(sequence)].append(self.next_token)
            self.next_token += 1
        sequence.length += count

    @rule(sequence=sequences, share=st.floats(0, 1))
    def truncate(self, sequence: Sequence, share: float) -> None:
        length = int(share * sequence.length)
        cut = length % PAGE and length < sequence.length
        if cut and self.pages.num_users(sequence.pages[length // PAGE]) > 1:
            with pytest.raises(GodwitError, match="multiple of 256"):
                self.pages.truncate(sequence, length)
            return
        self.pages.truncate(sequence, length)
        del self.expected[id(sequence)][length:]

    @rule(target=sequences, sequence=sequences, share=st.floats(0, 1))
    def fork(self, sequence: Sequence, share: float) -> Sequence:
        length = int(share * sequence.length)
        child = self.pages.fork(sequence, length)
        assert length - PAGE < child.length <= length
        return self.join(child, self.expected[id(sequence)][: child.length])

    @rule(sequence=consumes(sequences))
    def close(self, sequence: Sequence) -> None:
        self.pages.close(sequence)
        self.open.remove(sequence)
        with pytest.raises(GodwitError, match="was closed"):
            self.pages.close(sequence)

    @rule(target=sequences, pair=st.tuples(consumes(sequences), consumes(sequences)))
    def both_or_neither(self, pair: tuple[Sequence, Sequence]):
        one, other = pair
        before = (list(one.pages), list(other.pages))
        with pytest.raises(GodwitError, match="the cache is full"):
            self.pages.reserve([one, other], [1, (NUM_PAGES + 1) * PAGE])
        assert before == (one.pages, other.pages)
        return multiple(one, other)

    @invariant()
    def every_page_is_free_or_used(self) -> None:
        users = [sum(page in sequence.pages for sequence in self.open) for page in range(NUM_PAGES)]
        assert users == [self.pages.num_users(page) for page in range(NUM_PAGES)]
        assert self.pages.num_free == users.count(0)
        for sequence in self.open:
            assert len(set(sequence.pages)) == len(sequence.pages) >= pages_for(sequence.length)

    @invariant()
    def what_was_written_is_still_there(self) -> None:
        for sequence in self.open:
            tokens = self.expected[id(sequence)]
            assert len(tokens) == sequence.length
            for place in {0, sequence.length // 2, max(0, sequence.length - PAGE), sequence.length - 1} - {-1}:
                if place < sequence.length:
                    assert self.written[sequence.pages[place // PAGE], place % PAGE] == tokens[place]


Bookkeeping.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    # A rule that needs two sequences is passed over while there is one, and that counts as filtering.
    suppress_health_check=[HealthCheck.filter_too_much],
)
TestBookkeeping = Bookkeeping.TestCase


def test_what_is_refused() -> None:
    with pytest.raises(GodwitError, match="at least 1 page"):
        Pages(0)
    pages = Pages(2)
    sequence = pages.open()
    pages.reserve([sequence], [300])
    sequence.length = 300
    with pytest.raises(GodwitError, match=r"truncate to 0\.\.300"):
        pages.truncate(sequence, 301)
    with pytest.raises(GodwitError, match=r"fork at 0\.\.300"):
        pages.fork(sequence, 301)
