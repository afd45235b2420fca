"""What goes from stage to stage: typed rows, and the three ways in which one can end without becoming data.

A row that a stage gives up is never lost: it is written to `rejected.jsonl` with its status, the stage and the reason.
"""

import hashlib
import json
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, field_validator

Status = Literal["dropped", "unscored", "failed"]
"""Dropped by the pipeline's own rules or unreadable; a judge gave no usable verdict; the endpoint gave no answer."""

RowT = TypeVar("RowT", bound="Row")


class Row(BaseModel):
    """Base of all rows. Fields of the input that a source row does not name are left out.

    Attributes:
        id: unique in the input; made of the content if the input has none.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=False)

    id: str = ""

    @field_validator("id", mode="before")
    @classmethod
    def _number_is_a_name(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    def files(self) -> list[str]:
        """Files that the row names, from the input's folder on; that they are there is checked with the input."""
        return []

    def to(self, cls: type[RowT], **new: Any) -> RowT:
        """The next stage's row: its fields from this one, and the `new` ones."""
        unknown = set(new) - set(cls.model_fields)
        assert not unknown, f"{cls.__name__} has no field {sorted(unknown)}"
        kept = {name: getattr(self, name) for name in type(self).model_fields if name in cls.model_fields}
        return cls(**(kept | new))


class GivenUp(Exception):
    """A row ends here; the message is the reason that is written beside it."""

    status: Status = "dropped"


class Drop(GivenUp):
    """Raised by a stage: this row is not to become data (a filter, an answer that stayed unreadable)."""


class Unscored(GivenUp):
    """Raised where a judge gave no usable verdict: there is no score, and none is made up."""

    status: Status = "unscored"


class Failed(GivenUp):
    """The endpoint refused this request, or kept failing on it; the same command tries again."""

    status: Status = "failed"


class Malformed(ValueError):
    """Raised by a parser of model output; the message tells the model what was wrong, so that it can repair it."""


def canonical(value: Any) -> str:
    """JSON of one spelling, whatever order the fields came in."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))


def digest(value: Any) -> str:
    """32 hex digits of JSON values."""
    return hashlib.blake2b(canonical(value).encode(), digest_size=16).hexdigest()
