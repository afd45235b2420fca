"""A pipeline as its file states it: stages whose types fit together, options, version, sample input."""

import dataclasses
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from godwit.base.errors import GodwitError
from godwit.base.plugins import Room
from godwit.synth.rows import Row

ROOM = Room("godwit.synth.pipelines", noun="pipeline")
SAMPLES = Path(__file__).parent / "samples"

Stage = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class NoOptions:
    """Of a pipeline that has none."""


@dataclass(frozen=True)
class Pipeline:
    """One file of `godwit/synth/pipelines`.

    Attributes:
        name: of the file.
        about: first line of its docstring.
        version: of its prompts and rules; recorded with every row.
        stages: in order; each takes a row and an `Ask`, and gives a row or a list of rows.
        source, final: what the first takes and the last gives.
        judged: whether it makes calls as the judge.
        pictures: whether it sends pictures.
        retrieves: whether it ranks passages, so that an embedding endpoint is of use.
        rehearsal: options for a run with the bundled model, whose answers are short and mean nothing.
    """

    name: str
    about: str
    version: int
    stages: tuple[Stage, ...]
    source: type[Row]
    final: type[Row]
    options: type
    judged: bool
    pictures: bool
    retrieves: bool
    rehearsal: dict[str, Any] = field(default_factory=dict)

    @property
    def samples(self) -> Path:
        """Bundled input, for a first try."""
        return SAMPLES / f"{self.name}.jsonl"


def load(name: str) -> Pipeline:
    """Import the pipeline `name` and check that its stages fit together."""
    module = ROOM.load(name)
    stages: tuple[Stage, ...] = module.STAGES
    assert stages, f"{name}: STAGES is empty"
    given: type[Row] | None = None
    source: type[Row] | None = None
    for stage in stages:
        taken, given_next = _types(stage, name)
        source = source or taken
        assert given is None or issubclass(given, taken), f"{name}: {stage.__name__} takes {taken}, is given {given}"
        given = given_next
    assert source is not None and given is not None
    options = getattr(module, "Options", NoOptions)
    assert dataclasses.is_dataclass(options), f"{name}: Options is no dataclass"
    return Pipeline(
        name=name,
        about=(module.__doc__ or "").split("\n", 1)[0],
        version=module.VERSION,
        stages=stages,
        source=source,
        final=given,
        options=typing.cast(type, options),
        judged=getattr(module, "JUDGED", False),
        pictures=getattr(module, "PICTURES", False),
        retrieves=getattr(module, "RETRIEVES", False),
        rehearsal=getattr(module, "REHEARSAL", {}),
    )


def at_least(options: Any, least: int, *names: str) -> None:
    """For `Options.__post_init__`: refuse values below `least` of the options called `names`."""
    for name in names:
        value = getattr(options, name)
        if value < least:
            raise GodwitError(f"--{name.replace('_', '-')} is {value}; give {least} or more")


def _types(stage: Stage, name: str) -> tuple[type[Row], type[Row]]:
    """What a stage takes and gives, as annotated: `Row` types, the latter perhaps in a list."""
    hints = typing.get_type_hints(stage)
    given = hints.pop("return", None)
    taken = next(iter(hints.values()), None)
    if typing.get_origin(given) is list:
        (given,) = typing.get_args(given)
    for kind in (taken, given):
        assert isinstance(kind, type) and issubclass(kind, Row), f"{name}: {stage.__name__} is annotated with {kind}"
    return typing.cast(type[Row], taken), typing.cast(type[Row], given)
