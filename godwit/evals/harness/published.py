"""Published numbers of a benchmark, to stand beside ours: what they are of, and where they are from."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table from a paper.

    Attributes:
        source: paper and table.
        columns: names; those that are our metrics' or groups' stand in one column with ours.
        rows: model -> its numbers, None where there is none.
        caution: what must be the same for ours to compare.
    """

    source: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | None, ...]]
    caution: str = ""


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """How the paper asks its judge."""

    temperature: float = 0.0
    retry_temperature: float = 1.0
    attempts: int = 5
    max_tokens: int = 1024
    published: str = ""
    """the judge of the published numbers"""
