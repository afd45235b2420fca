"""Pages of a cache: which sequence has which, who else uses them, and which are free. Numbers only, no tensors.

A page holds `PAGE` consecutive tokens of one sequence, in every layer of the cache at once; a sequence's list of pages
is its block table. Several sequences may share the full pages of a common beginning: a page goes back when its last
user lets go of it. Whatever fails leaves everything as it was.
"""

from dataclasses import dataclass, field

from godwit.base.errors import GodwitError

# A multiple of what the index kernel scores side by side (`index_topk_paged.tile_width`); few enough to waste little.
PAGE = 256


@dataclass(eq=False)
class Sequence:
    """Tokens that see each other: how many the cache holds, and their pages in order (room for more than `length`)."""

    length: int = 0
    pages: list[int] = field(default_factory=list)
    open: bool = True


class Pages:
    """Owner of a fixed number of pages."""

    def __init__(self, num_pages: int):
        if num_pages < 1:
            raise GodwitError(f"a cache needs at least 1 page of {PAGE} tokens, got {num_pages}")
        self.num_pages = num_pages
        # Taken from the end, so that a lone sequence gets 0, 1, 2, ...: neighbours in memory.
        self._free = list(range(num_pages - 1, -1, -1))
        self._users = [0] * num_pages

    @property
    def num_free(self) -> int:
        """Pages nobody uses."""
        return len(self._free)

    def num_users(self, page: int) -> int:
        """How many sequences have this page."""
        return self._users[page]

    @staticmethod
    def num_missing(sequence: Sequence, num_tokens: int) -> int:
        """Pages that `num_tokens` more tokens need beyond those the sequence has."""
        return max(0, pages_for(sequence.length + num_tokens) - len(sequence.pages))

    def open(self) -> Sequence:
        """A new, empty sequence."""
        return Sequence()

    def reserve(self, sequences: list[Sequence], num_tokens: list[int]) -> None:
        """Give each sequence room for so many more tokens; its length does not change.

        Raises:
            GodwitError: fewer pages are free than all of them need (none gets any), or a sequence was closed.
        """
        for sequence in sequences:
            _check_open(sequence)
        missing = [self.num_missing(*pair) for pair in zip(sequences, num_tokens, strict=True)]
        if sum(missing) > len(self._free):
            raise GodwitError(
                f"the cache is full: {sum(missing)} more pages of {PAGE} tokens are needed and {len(self._free)} of "
                f"{self.num_pages} are free; close or truncate a sequence, or make a cache of more pages"
            )
        for sequence, count in zip(sequences, missing, strict=True):
            for _ in range(count):
                page = self._free.pop()
                self._users[page] = 1
                sequence.pages.append(page)

    def truncate(self, sequence: Sequence, length: int) -> None:
        """Keep the first `length` tokens and give pages behind them back.

        Raises:
            GodwitError: there are not so many, or the cut goes through a page that others use too.
        """
        _check_open(sequence)
        if not 0 <= length <= sequence.length:
            raise GodwitError(f"truncate to 0..{sequence.length} tokens, which are there; got {length}")
        kept = pages_for(length)
        if length % PAGE and length < sequence.length and self._users[sequence.pages[kept - 1]] > 1:
            raise GodwitError(
                f"{length} tokens end inside a page that other sequences use too; truncate to a multiple of {PAGE}"
            )
        self._release(sequence.pages[kept:])
        del sequence.pages[kept:]
        sequence.length = length

    def fork(self, sequence: Sequence, length: int | None = None) -> Sequence:
        """A sequence that begins with the full pages of another's first `length` tokens (None: all), without a copy.

        Its length says how many tokens that are: up to `PAGE - 1` of those asked for are left for the caller to extend.
        """
        _check_open(sequence)
        if length is not None and not 0 <= length <= sequence.length:
            raise GodwitError(f"fork at 0..{sequence.length} tokens, which are there; got {length}")
        full = (sequence.length if length is None else length) // PAGE
        for page in sequence.pages[:full]:
            self._users[page] += 1
        return Sequence(full * PAGE, sequence.pages[:full])

    def adopt(self, pages: list[int]) -> Sequence:
        """A sequence that begins with these full pages, which somebody holds."""
        assert all(self._users[page] > 0 for page in pages), pages
        for page in pages:
            self._users[page] += 1
        return Sequence(len(pages) * PAGE, list(pages))

    def hold(self, page: int) -> None:
        """Be one more user of a page, without a sequence: it stays when its sequences close."""
        assert self._users[page] > 0, page
        self._users[page] += 1

    def let_go(self, page: int) -> None:
        """Take back one `hold`."""
        self._release([page])

    def close(self, sequence: Sequence) -> None:
        """Give all its pages back; the sequence is of no use any more."""
        _check_open(sequence)
        self._release(sequence.pages)
        sequence.pages, sequence.length, sequence.open = [], 0, False

    def _release(self, pages: list[int]) -> None:
        for page in reversed(pages):
            assert self._users[page] > 0, page
            self._users[page] -= 1
            if self._users[page] == 0:
                self._free.append(page)


def pages_for(num_tokens: int) -> int:
    """How many pages hold so many tokens."""
    return -(-num_tokens // PAGE)


def _check_open(sequence: Sequence) -> None:
    if not sequence.open:
        raise GodwitError("this sequence was closed; open a new one with cache.open()")
