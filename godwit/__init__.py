"""Godwit: long-horizon language models of the GLM-5 kind.

`import godwit` costs nothing: what needs torch is imported when it is first asked for.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> module that holds it.
_LAZY = {
    "load": "godwit.models.weights",
    "save": "godwit.models.weights",
    "GodwitError": "godwit.base.errors",
    "LLM": "godwit.engine.llm",
    "AsyncLLM": "godwit.engine.async_llm",
    "SamplingParams": "godwit.engine.params",
}
# Rooms that are public as a whole, imported when first asked for.
_ROOMS = ("indexcache",)


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"godwit.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'godwit' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, *_ROOMS])
