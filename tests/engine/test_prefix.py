"""The radix tree: the longest common beginning, least recently used out first, and no page lost."""

from hypothesis import given, settings
from hypothesis import strategies as st

from godwit.engine.prefix import PrefixCache
from godwit.nn.pages import PAGE, Pages


def tokens_of(letters: str) -> list[int]:
    """One page a letter."""
    return [token for letter in letters for token in [ord(letter)] * PAGE]


def put(tree: PrefixCache, pages: Pages, letters: str) -> list[int]:
    sequence = pages.open()
    pages.reserve([sequence], [len(letters) * PAGE])
    sequence.length = len(letters) * PAGE
    tree.insert(tokens_of(letters), sequence, length=sequence.length)
    kept = list(sequence.pages)
    pages.close(sequence)
    return kept


def test_the_longest_beginning() -> None:
    pages = Pages(10)
    tree = PrefixCache(pages)
    first, second = put(tree, pages, "abc"), put(tree, pages, "abd")
    assert tree.num_pages == 4 and pages.num_free == 6
    assert tree.match(tokens_of("abce"), limit=4 * PAGE) == (first, None, 0)
    assert tree.match(tokens_of("abd"), limit=3 * PAGE) == ([*first[:2], second[2]], None, 0)
    assert tree.match(tokens_of("xab"), limit=3 * PAGE) == ([], None, 0)
    # One token must be left to compute: the last page is not whole, and its part can be copied.
    assert tree.match(tokens_of("abc"), limit=3 * PAGE - 1) == (first[:2], first[2], PAGE - 1)
    assert tree.match(tokens_of("abc"), limit=3 * PAGE - 1, partial=False) == (first[:2], None, 0)
    mixed = tokens_of("ab") + [ord("d")] * 100 + [1] * 50
    assert tree.match(mixed, limit=len(mixed)) == (first[:2], second[2], 100)


def test_least_recently_used_goes_first_and_leaves_before_branches() -> None:
    pages = Pages(10)
    tree = PrefixCache(pages)
    for letters in ("ab", "cd", "ef"):
        put(tree, pages, letters)
    tree.match(tokens_of("ab"), limit=2 * PAGE)
    held = pages.adopt(tree.match(tokens_of("e"), limit=PAGE).pages)
    assert tree.num_evictable == 5
    assert tree.evict(2) == 2
    assert not tree.match(tokens_of("c"), limit=PAGE).pages and len(tree.match(tokens_of("ab"), limit=999).pages) == 2
    # "e" is in use, its child "f" is not.
    assert tree.evict(10) == 3 and tree.num_pages == 1
    pages.close(held)
    tree.clear()
    assert pages.num_free == 10 and tree.num_pages == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "use", "drop", "evict", "clear"]), st.text("abc", max_size=4))))
def test_pages_are_never_lost(actions: list[tuple[str, str]]) -> None:
    pages = Pages(12)
    tree, used = PrefixCache(pages), []
    for action, letters in actions:
        if action == "put":
            missing = len(letters) - pages.num_free
            if missing <= 0 or tree.evict(missing) >= missing:
                put(tree, pages, letters)
        elif action == "use":
            used.append(pages.adopt(tree.match(tokens_of(letters), limit=len(letters) * PAGE).pages))
        elif action == "drop" and used:
            pages.close(used.pop())
        elif action == "evict":
            evictable = tree.num_evictable
            assert tree.evict(99) == evictable and tree.num_evictable == 0
        elif action == "clear":
            tree.clear()
        in_use = {page for sequence in used for page in sequence.pages}
        assert max(len(in_use), tree.num_pages) <= 12 - pages.num_free <= len(in_use) + tree.num_pages
    for sequence in used:
        pages.close(sequence)
    tree.clear()
    assert pages.num_free == 12
