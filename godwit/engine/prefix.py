"""The prefix cache: a radix tree over full pages of token ids; who begins alike shares pages instead of computing them.

A node is one page: the `PAGE` tokens it holds and, by its path, all tokens before them, which is what its rows depend
on besides the weights. The tree is of one weight version; new weights empty it. The tree is a user of its pages, so
they stay when their sequences close, and give way, least recently used first, when somebody needs pages.

Where a prompt ends or differs inside a page, the part that is equal can be copied. With a prediction layer, a page's
last row of it depends on the token behind the page too; at worst a draft is worse, never a text.
"""

import heapq
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

import numpy as np

from godwit.nn.pages import PAGE, Pages, Sequence

# Equal tokens inside a page worth a copy of it, and how many candidates (latest first) are looked at.
WORTH_COPYING = 16
CANDIDATES = 32


@dataclass(eq=False)
class Node:
    """One full page."""

    tokens: tuple[int, ...]
    page: int
    parent: "Node | None"
    used: int
    children: dict[tuple[int, ...], "Node"] = field(default_factory=dict)


class Match(NamedTuple):
    """Full pages that begin as the tokens do, and a page whose first `num_partial` rows go on so (None: none)."""

    pages: list[int]
    partial: int | None
    num_partial: int


class PrefixCache:
    """The tree.

    Args:
        pages: owner of the cache's pages.
    """

    def __init__(self, pages: Pages):
        self._pages = pages
        self._root = Node((), -1, None, 0)
        self._clock = count(1)
        self._num_nodes = 0

    @property
    def num_pages(self) -> int:
        """Pages the tree holds."""
        return self._num_nodes

    @property
    def num_evictable(self) -> int:
        """Pages that `evict` can free: nobody but the tree uses them or a page below them."""
        kept, num = set[int](), 0
        for node in reversed(self._nodes()):  # children before parents
            if id(node) in kept or self._pages.num_users(node.page) > 1:
                kept.add(id(node.parent))
            else:
                num += 1
        return num

    def match(self, token_ids: list[int], *, limit: int, partial: bool = True) -> Match:
        """The longest beginning of the first `limit` tokens that is there; it counts as used now."""
        node, pages, now = self._root, [], next(self._clock)
        for start in range(0, limit - PAGE + 1, PAGE):
            child = node.children.get(tuple(token_ids[start : start + PAGE]))
            if child is None:
                break
            child.used, node = now, child
            pages.append(child.page)
        rest = token_ids[len(pages) * PAGE : min(limit, (len(pages) + 1) * PAGE)]
        if not partial:
            return Match(pages, None, 0)
        best, longest = None, WORTH_COPYING - 1
        for child in list(node.children.values())[-CANDIDATES:]:
            equal = num_equal(rest, child.tokens)
            if equal > longest:
                best, longest = child, equal
        if best is None:
            return Match(pages, None, 0)
        best.used = now
        return Match(pages, best.page, longest)

    def insert(self, token_ids: list[int], sequence: Sequence, *, length: int) -> None:
        """Keep the full pages among a sequence's first `length` tokens; those that are there already stay."""
        assert length <= sequence.length, (length, sequence.length)
        node, now = self._root, next(self._clock)
        for place in range(length // PAGE):
            tokens = tuple(token_ids[place * PAGE : (place + 1) * PAGE])
            child = node.children.get(tokens)
            if child is None:
                child = Node(tokens, sequence.pages[place], node, now)
                node.children[tokens] = child
                self._pages.hold(child.page)
                self._num_nodes += 1
            child.used, node = now, child

    def evict(self, num_pages: int) -> int:
        """Free up to so many pages, least recently used leaves first; returns how many."""
        leaves = [(node.used, id(node), node) for node in self._nodes() if not node.children]
        heapq.heapify(leaves)
        freed = 0
        while leaves and freed < num_pages:
            _, _, node = heapq.heappop(leaves)
            if self._pages.num_users(node.page) > 1:
                continue
            parent = self._drop(node)
            freed += 1
            if parent is not self._root and not parent.children:
                heapq.heappush(leaves, (parent.used, id(parent), parent))
        return freed

    def clear(self) -> None:
        """Forget everything: the weights have changed."""
        for node in self._nodes():
            self._pages.let_go(node.page)
        self._root.children.clear()
        self._num_nodes = 0

    def _drop(self, node: Node) -> Node:
        assert node.parent is not None, "the root is no page"
        del node.parent.children[node.tokens]
        self._pages.let_go(node.page)
        self._num_nodes -= 1
        return node.parent

    def _nodes(self) -> list[Node]:
        found, stack = [], list(self._root.children.values())
        while stack:
            node = stack.pop()
            found.append(node)
            stack.extend(node.children.values())
        return found


def num_equal(tokens: Many[int], others: Many[int]) -> int:
    """How many tokens at the beginning are the same; 0 where that is too few to be worth a copy."""
    count = min(len(tokens), len(others))
    if count < WORTH_COPYING or tuple(tokens[:WORTH_COPYING]) != tuple(others[:WORTH_COPYING]):
        return 0
    differs = np.flatnonzero(np.array(tokens[:count]) != np.array(others[:count]))
    return int(differs[0]) if differs.size else count
