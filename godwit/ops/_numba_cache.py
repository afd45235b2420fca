"""Compiled loops are compiled again when anything that they are made of has changed.

numba keeps compiled code on disk and looks only at the file that a loop stands in. A loop that calls those of another
file would stay as it was when that file changes, also over an upgrade of this package.
"""

import hashlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import config
from numba.core import caching

PACKAGE = __name__.partition(".")[0]
# numba's own, in its order.
_OTHERS = "UserProvidedCacheLocator,InTreeCacheLocator,UserWideCacheLocator,IPythonCacheLocator,ZipCacheLocator"


def sources(namespace: dict[str, Any], found: set[str] | None = None) -> set[str]:
    """Modules of this package that the functions in a module's namespace come from, and theirs, and so on."""
    found = set() if found is None else found
    for value in list(namespace.values()):
        module = getattr(value, "__module__", None)
        if (
            isinstance(module, str)
            and module.startswith(f"{PACKAGE}.")
            and module not in found
            and module in sys.modules
        ):
            found.add(module)
            sources(vars(sys.modules[module]), found)
    return found


@cache
def _digest(file: str) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()


class _Stamped:
    """The stamp of a function: what all of its sources hold."""

    def __init__(self, py_func: Callable[..., Any], py_file: str):
        super().__init__(py_func, py_file)  # pyrefly: ignore[bad-argument-count]
        self._names = sorted(sources(py_func.__globals__) | {py_func.__module__})

    def get_source_stamp(self) -> str:
        """Compared with that of the code on disk."""
        return hashlib.sha256(b"".join(_digest(sys.modules[name].__file__ or "") for name in self._names)).hexdigest()


class _UserProvided(_Stamped, caching.UserProvidedCacheLocator):
    pass


class _InTree(_Stamped, caching.InTreeCacheLocator):
    pass


class _UserWide(_Stamped, caching.UserWideCacheLocator):
    pass


class Locator:
    """Says where the loops of this package are kept; others' are left to numba."""

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> object | None:
        """As numba's locators: None for what is not ours, or cannot be kept."""
        if not str(py_func.__module__).startswith(f"{PACKAGE}."):
            return None
        found = (kind.from_function(py_func, py_file) for kind in (_UserProvided, _InTree, _UserWide))
        return next((locator for locator in found if locator is not None), None)


def install() -> None:
    """Put `Locator` before numba's own, or before those that the user named."""
    others = config.CACHE_LOCATOR_CLASSES or _OTHERS  # pyrefly: ignore[missing-attribute]
    config.CACHE_LOCATOR_CLASSES = f"{__name__}.Locator,{others}"  # pyrefly: ignore[missing-attribute]
