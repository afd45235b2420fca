"""Configs to JSON and back, strictly: nothing is added, nothing unknown is dropped, every fault is named by its path.

A config is a dataclass whose leaves are bool, int, float, str, None, enums, `Path`s, and tuples, lists, dicts or unions
of these and of further dataclasses. A field whose annotation is a base class with several shapes (a decoder config,
say) derives from `Polymorphic`, which says from the data which class to build.
"""

import dataclasses
import enum
import hashlib
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from godwit.base.errors import GodwitError, did_you_mean

ConfigT = TypeVar("ConfigT")


class Polymorphic:
    """Base of config classes whose concrete class depends on the data (for example on `model_type`)."""

    @classmethod
    def class_for(cls, data: dict[str, Any], where: str) -> type:
        """The dataclass to build from `data`, by default this one; raises `GodwitError` naming `where` if none fits."""
        return cls


def to_json(config: Any) -> dict[str, Any]:
    """The init fields of a config dataclass as JSON values: tuples become lists, enums their value, paths text."""
    assert dataclasses.is_dataclass(config) and not isinstance(config, type), config
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config) if field.init}


def from_json(cls: type[ConfigT], data: Any, where: str = "config") -> ConfigT:
    """Build the config class `cls` from JSON values; the inverse of `to_json`.

    Fields with a default may be absent. Unknown, missing and mistyped fields raise `GodwitError` with their dotted
    path below `where`.
    """
    if not isinstance(data, dict):
        raise GodwitError(f"{where}: expected an object with fields, got {_shown(data)}")
    concrete = typing.cast(type[ConfigT], cls.class_for(data, where)) if issubclass(cls, Polymorphic) else cls
    assert dataclasses.is_dataclass(concrete), concrete
    hints = typing.get_type_hints(concrete)
    fields = {field.name: field for field in dataclasses.fields(concrete) if field.init}
    for name in data:
        if name not in fields:
            raise GodwitError(f"{where}: unknown field {name!r}; {did_you_mean(str(name), fields)}")
    missing = [name for name, field in fields.items() if name not in data and _required(field)]
    if missing:
        raise GodwitError(f"{where}: missing {', '.join(missing)}; add {'them' if len(missing) > 1 else 'it'}")
    values = {name: _built(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    return typing.cast(ConfigT, concrete(**values))


def fingerprint(config: Any) -> str:
    """16 hex digits of a config (a dataclass or its JSON form); equal configs agree across processes and versions."""
    data = config if isinstance(config, dict) else to_json(config)
    canonical = json.dumps(_canonical(data), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What changed from `a` to `b`, one line a leaf: `optim.lr: 0.001 -> 0.01`."""
    left, right = leaves(a), leaves(b)
    paths = list(left) + [path for path in right if path not in left]
    return [
        f"{path}: {left.get(path, 'absent')} -> {right.get(path, 'absent')}"
        for path in paths
        if _canonical(left.get(path, _ABSENT)) != _canonical(right.get(path, _ABSENT))
    ]


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """The leaves of JSON values by dotted path, in order: `{"optim.lr": 0.001, "stages[0].tokens": 4096, ...}`."""
    if isinstance(value, dict) and value:
        pairs = ((f"{path}.{key}" if path else str(key), item) for key, item in value.items())
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        pairs = ((f"{path}[{index}]", item) for index, item in enumerate(value))
    else:
        return {path: value}
    return {leaf: item for inner, value in pairs for leaf, item in leaves(value, inner).items()}


_ABSENT = "\0absent"


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    assert value is None or isinstance(value, (bool, int, float, str)), f"not a config value: {value!r}"
    return value


def _canonical(value: Any) -> Any:
    """1 and 1.0 are the same setting, so they must give the same fingerprint."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    return value


def _built(hint: Any, value: Any, where: str) -> Any:
    """`value` from JSON as the annotation `hint` wants it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _built_union(arguments, value, where)
    if origin is Literal:
        if not any(value == allowed and type(value) is type(allowed) for allowed in arguments):
            raise GodwitError(f"{where}: {_shown(value)}; {did_you_mean(str(value), map(str, arguments))}")
        return value
    if origin in (tuple, list):
        return _built_sequence(origin, arguments, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise _mistyped(where, "an object", value)
        return {key: _built(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if not isinstance(hint, type):
        raise AssertionError(f"{where}: no JSON form for annotation {hint!r}")
    if dataclasses.is_dataclass(hint) or issubclass(hint, Polymorphic):
        return from_json(hint, value, where)
    return _built_scalar(hint, value, where)


def _built_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    inner = [argument for argument in arguments if argument is not type(None)]
    if len(inner) == 1:
        return _built(inner[0], value, where)
    faults = []
    for argument in inner:
        if type(value) is argument:
            return value
    for argument in inner:
        try:
            return _built(argument, value, where)
        except GodwitError as error:
            faults.append(str(error))
    raise GodwitError("; or ".join(faults))


def _built_sequence(origin: type, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _mistyped(where, "a list", value)
    if origin is list or (len(arguments) == 2 and arguments[1] is Ellipsis):
        hints = [arguments[0]] * len(value)
    else:
        hints = list(arguments)
    if len(hints) != len(value):
        raise _mistyped(where, f"a list of {len(hints)}", value)
    return origin(_built(hint, item, f"{where}[{index}]") for index, (hint, item) in enumerate(zip(hints, value)))


def _built_scalar(hint: type, value: Any, where: str) -> Any:
    if issubclass(hint, enum.Enum):
        allowed = {member.value: member for member in hint}
        if value not in allowed:
            raise GodwitError(f"{where}: {_shown(value)}; {did_you_mean(str(value), map(str, allowed))}")
        return allowed[value]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint not in _WORDS:
        raise AssertionError(f"{where}: no JSON form for annotation {hint!r}")
    if type(value) is not hint:
        raise _mistyped(where, _WORDS[hint], value)
    return value


_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
    Path: "a path",
}


def _mistyped(where: str, wanted: str, value: Any) -> GodwitError:
    return GodwitError(f"{where}: expected {wanted}, got {_shown(value)}")


def _shown(value: Any) -> str:
    text = json.dumps(value, default=repr, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
