"""Index sharing (IndexCache, arXiv 2603.12201): which layers of a sparse-attention model can do without an indexer.

    import godwit
    result = godwit.indexcache.search(model, calibration, keep=0.25)
    result.order, result.losses, result.plan

`search` flips layers from F (own indexer) to S (reuse the selection handed down), each time the one whose flip costs
the least language-model loss; `overlap` measures how much of their selections layers have in common. Nothing is
imported before it is asked for.
"""

import importlib
from typing import Any

# Public name -> module that holds it.
_LAZY = {
    "search": "godwit.indexcache.searching",
    "overlap": "godwit.indexcache.overlaps",
    "Calibration": "godwit.indexcache.calibration",
    "SearchResult": "godwit.indexcache.result",
    "export": "godwit.indexcache.exporter",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'godwit.indexcache' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
