"""Model output as a schema wants it; what is wrong with it in words that the model, or a user, can mend it by."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from godwit.synth.rows import Malformed
from godwit.text.replies import json_object

ModelT = TypeVar("ModelT", bound=BaseModel)
FAULTS_SHOWN = 3


def model_in(text: str, schema: type[ModelT]) -> ModelT:
    """The first JSON object in `text`, as `schema` wants it.

    Raises:
        Malformed: none, or one that does not fit; the message says where.
    """
    found = json_object(text)
    if found is None:
        raise Malformed("there is no JSON object in it")
    try:
        return schema.model_validate(found)
    except ValidationError as error:
        raise Malformed(faults_of(error)) from None


def faults_of(error: ValidationError) -> str:
    """What pydantic found, short: `scores.clarity: Field required; ...`."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(map(str, fault['loc'])) or 'value'}: {fault['msg']}" for fault in faults[:FAULTS_SHOWN]]
    return "; ".join(lines) + (f"; and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else "")
