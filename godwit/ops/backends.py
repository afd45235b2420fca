"""Choosing who computes an operation: the reference is the definition, a faster backend says why it cannot.

An operation is a package whose modules are its backends. Each backend has

* `why_not(*args, **kwargs) -> str | None`: the reason it cannot take these arguments, or None;
* `run(*args, **kwargs)`: the computation.

Automatic choice walks the operation's order, logs once why a faster backend was passed over, and ends at
`reference`. A backend asked for by name (`with use(attention="sdpa")`) that cannot run raises instead.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from types import MappingProxyType, ModuleType
from typing import Any

from godwit.base.errors import GodwitError, did_you_mean
from godwit.base.plugins import Room

log = logging.getLogger(__name__)

_requested: ContextVar[Mapping[str, str]] = ContextVar("requested backends", default=MappingProxyType({}))


class Op:
    """One operation and its backends.

    Args:
        package: dotted name of the operation's package; its last part names the operation.
        order: backends from the fastest to the reference; those not listed run only when asked for by name.
    """

    def __init__(self, package: str, *, order: tuple[str, ...]):
        self.name = package.rsplit(".", 1)[-1]
        self.room = Room(package, noun=f"{package.rsplit('.', 1)[-1]} backend")
        self.order = order
        self._passed_over: set[tuple[str, str]] = set()

    @cached_property
    def backends(self) -> dict[str, ModuleType]:
        """The modules of `order`, imported at first use."""
        return {name: self.room.load(name) for name in self.order}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the operation on the backend asked for, else on the first that can."""
        asked = _requested.get().get(self.name)
        if asked is not None:
            return self._run_asked(asked, args, kwargs)
        for name, backend in self.backends.items():
            reason = backend.why_not(*args, **kwargs)
            if reason is None:
                return backend.run(*args, **kwargs)
            if (name, reason) not in self._passed_over:
                self._passed_over.add((name, reason))
                log.info("%s: backend %s passed over: %s", self.name, name, reason)
        raise AssertionError(f"{self.name}: the reference must take every argument")

    def _run_asked(self, asked: str, args: tuple, kwargs: dict) -> Any:
        backend = self.room.load(asked)
        reason = backend.why_not(*args, **kwargs)
        if reason is not None:
            others = [name for name in self.room.names() if name != asked]
            raise GodwitError(f"{self.name}: backend {asked!r} cannot run here: {reason}; {did_you_mean('', others)}")
        return backend.run(*args, **kwargs)


@contextmanager
def use(**backends: str) -> Iterator[None]:
    """Ask for backends by operation name inside the block, e.g. `with use(attention="reference"):`."""
    for op in backends:
        if op not in op_names():
            raise GodwitError(f"unknown operation {op!r}: {did_you_mean(op, op_names())}")
    token = _requested.set({**_requested.get(), **backends})
    try:
        yield
    finally:
        _requested.reset(token)


def asked() -> Mapping[str, str]:
    """The backends asked for by name here, by operation."""
    return _requested.get()


def op_names() -> list[str]:
    """Names of all operations."""
    return Room("godwit.ops", noun="operation", furniture=("backends", "context")).names()
