"""Reading what models write: the thought before the answer, JSON in prose, text between marks. Nothing is evaluated."""

import json
import re
from itertools import islice
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from godwit.synth.rows import Malformed

ModelT = TypeVar("ModelT", bound=BaseModel)
_FENCED = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
# Hostile text may be all brackets; an answer that has its JSON behind so many others is none.
MAX_STARTS = 64
FAULTS_SHOWN = 3


def after_thought(text: str) -> str:
    """What follows the last closing think mark, stripped; all of it if there is none."""
    return text.rsplit("</think>", 1)[-1].strip()


def json_in(text: str) -> Any:
    """The first JSON object or list in `text`, fenced blocks before others.

    Raises:
        Malformed: there is none.
    """
    for part in (*_FENCED.findall(text[:1_000_000])[:MAX_STARTS], text):
        for start in islice(re.finditer(r"[{\[]", part), MAX_STARTS):
            try:
                value, _ = _DECODER.raw_decode(part, start.start())
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict) or (isinstance(value, list) and value):
                return value
    raise Malformed("there is no JSON in it")


def model_in(text: str, schema: type[ModelT]) -> ModelT:
    """The first JSON value in `text`, as `schema` wants it.

    Raises:
        Malformed: none, or one that does not fit; the message says where.
    """
    try:
        return schema.model_validate(json_in(text))
    except ValidationError as error:
        raise Malformed(faults_of(error)) from None


def faults_of(error: ValidationError) -> str:
    """What pydantic found, short: `scores.clarity: Field required; ...`."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(map(str, fault['loc'])) or 'value'}: {fault['msg']}" for fault in faults[:FAULTS_SHOWN]]
    return "; ".join(lines) + (f"; and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else "")


def between(text: str, begin: str, end: str) -> str:
    """What stands between the first `begin` and the next `end`, stripped.

    Raises:
        Malformed: one of them is missing, or nothing is between them.
    """
    _, found, rest = text.partition(begin)
    inside, closed, _ = rest.partition(end)
    if not found or not closed or not inside.strip():
        raise Malformed(f"there is nothing between {begin} and {end}")
    return inside.strip()


def _no_number(spelling: str) -> NoReturn:
    raise ValueError(f"{spelling} is no number of JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_number)
