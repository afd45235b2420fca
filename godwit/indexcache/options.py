"""How to search: the options of `godwit.indexcache.search`, checked as far as they can be without a model."""

from dataclasses import dataclass

from godwit.base.errors import GodwitError

MEMORY = 4 * 10**9
"""Bytes of states kept between plans, by default."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How to search.

    Attributes:
        keep: fraction of the layers that keep their indexer (rounded up), or their number.
        objective: "all" or "long", see `godwit.indexcache.objective`.
        blocks: parts of the layers that flip one layer each a step; 1 is the greedy search.
        lazy: ask again only candidates that can still win.
        check_lazy: compare each lazy choice with the full one (costs what laziness saves).
        stage_starts: first layers of pipeline stages, never flipped.
        baselines: take the losses of other plans with as many indexers, too.
        refine: move single indexers behind the last flip while that lowers the loss, see `godwit.indexcache.refine`.
        memory: bytes of states to keep between plans, all processes together.
        seed: of the random baseline.
    """

    keep: float | int = 0.25
    objective: str = "all"
    blocks: int = 1
    lazy: bool = False
    check_lazy: bool = False
    stage_starts: tuple[int, ...] = ()
    baselines: bool = True
    refine: bool = False
    memory: int = MEMORY
    seed: int = 0

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise GodwitError(f"blocks is {self.blocks}; give 1 (the greedy search) or more")
        if self.lazy and self.blocks > 1:
            raise GodwitError("lazy and blocks do not go together; choose one")
        if self.check_lazy and not self.lazy:
            raise GodwitError("check_lazy compares the lazy search with the full one; add --lazy")
        if self.memory < 0:
            raise GodwitError(f"memory is {self.memory} bytes; give 0 (keep nothing) or more")

    @property
    def method(self) -> str:
        """Name of the way to search."""
        return "lazy" if self.lazy else "blocks" if self.blocks > 1 else "greedy"
