"""Argument values of tool calls: back from the text between `<arg_value>` and `</arg_value>`.

Strings are written raw and everything else as JSON, so `1` may be a number or a string: the tool's schema decides.
    only strings allowed      the text as it is
    a schema without strings  JSON; else what a model writes instead of JSON (escaped JSON, a Python literal); else text
    strings and other types   JSON of one of the other types, else the text
    no schema                 JSON that is no string, else the text
So a value comes back exactly if it fits its schema and its schema does not allow both strings and what the string
spells ("1" where integers are allowed too). Never raises: what a model wrote may be anything.
Order as in sglang's glm47 parser (facts `glm.md` C.3).
"""

import ast
import json
from typing import Any

from godwit.base.errors import GodwitError
from godwit.text.messages import check_json

_TYPE_OF = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
_NOT_JSON = object()
_MAX_REFERENCES = 16


def decode_value(text: str, schema: dict[str, Any] | None) -> Any:
    """The value that `text` stands for under the JSON schema of its argument (None: unknown)."""
    types = allowed_types(schema, schema or {})
    return _decode(text, types)


def decode_argument(text: str, key: str, parameters: dict[str, Any] | None) -> Any:
    """The value of argument `key` of a tool whose `parameters` are given (None: an unknown tool)."""
    return _decode(text, None if parameters is None else argument_types(key, parameters))


def argument_types(key: str, parameters: dict[str, Any]) -> frozenset[str] | None:
    """JSON types that a tool's `parameters` allow for the argument `key`; None where they do not say."""
    properties = parameters.get("properties")
    schema = properties.get(key) if isinstance(properties, dict) else None
    if schema is None:
        schema = parameters.get("additionalProperties")
    return allowed_types(schema, parameters)


def allowed_types(schema: Any, root: dict[str, Any], *, depth: int = 0) -> frozenset[str] | None:
    """JSON types that `schema` allows, as far as its own words say; None where they do not.

    `root` is where `#/...` references are looked up.
    """
    if not isinstance(schema, dict) or depth > _MAX_REFERENCES:
        return None
    if isinstance(schema.get("$ref"), str):
        return allowed_types(_look_up(schema["$ref"], root), root, depth=depth + 1)
    given = schema.get("type")
    if isinstance(given, str):
        return frozenset([given])
    if isinstance(given, list) and all(isinstance(name, str) for name in given):
        return frozenset(given)
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list) and values:
        return frozenset(_type_of(value) for value in values)
    for word in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(word), list):
            parts = [allowed_types(part, root, depth=depth + 1) for part in schema[word]]
            known = [part for part in parts if part is not None]
            if word == "allOf" and known:
                return frozenset.intersection(*known)
            if known and len(known) == len(parts):
                return frozenset.union(*known)
    return None


def _decode(text: str, types: frozenset[str] | None) -> Any:
    if types == frozenset(["string"]):
        return text
    value = _from_json(text)
    if types is None:
        return text if value is _NOT_JSON or isinstance(value, str) else value
    if _fits(value, types):
        return value
    if "string" in types:
        return text
    for reader in (_from_escaped_json, _from_literal):
        other = reader(text)
        if _fits(other, types):
            return other
    # It fits no allowed type: a value that does not keep to its schema, written as its type is always written.
    return text if value is _NOT_JSON or isinstance(value, str) else value


def _fits(value: Any, types: frozenset[str]) -> bool:
    """Whether `value` is of an allowed type other than string (strings are raw, never JSON)."""
    if value is _NOT_JSON or isinstance(value, str):
        return False
    name = _type_of(value)
    return name in types or (name == "integer" and "number" in types)


def _type_of(value: Any) -> str:
    return "null" if value is None else _TYPE_OF.get(type(value), "unknown")


def _from_json(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        check_json(value, "values")
    except (ValueError, RecursionError, GodwitError):
        return _NOT_JSON
    return value


def _from_escaped_json(text: str) -> Any:
    inner = _from_json(f'"{text}"')
    return _from_json(inner) if isinstance(inner, str) else _NOT_JSON


def _from_literal(text: str) -> Any:
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _NOT_JSON
    try:  # only what JSON has too: no sets, bytes or complex numbers; tuples become lists
        return _from_json(json.dumps(value, allow_nan=False))
    except (ValueError, TypeError, RecursionError):
        return _NOT_JSON


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _look_up(reference: str, root: dict[str, Any]) -> Any:
    found: Any = root
    if not reference.startswith("#"):
        return None
    for part in reference[1:].strip("/").split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if name:
            found = found.get(name) if isinstance(found, dict) else None
    return found
