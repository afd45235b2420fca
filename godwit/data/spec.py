"""The words for a source: `[kind:]path[@weight][?key=value&...]`.

    stdlib                                 the standard library's own sources
    notes/                                 a folder of text (kind `text` is inferred)
    jsonl:a.jsonl@2?field=content          JSON lines, weight 2, the text is in the field `content`
    text:src/@0.3?ext=py,md&fim=0.5        only these extensions, half of the documents fill-in-the-middle

Without a kind: a source that has no path (`stdlib`, `recall`), a name that ends in .jsonl or .parquet, else `text`. The
weight is the source's share of the training tokens relative to the other sources'; either all sources of a mix have one
or none (then every document is seen equally often). Values after `?` may be %-encoded.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from godwit.base.errors import GodwitError, did_you_mean
from godwit.data.sources import ROOM

COMMON_OPTIONS = {
    "fim": "fraction of this source's training documents in fill-in-the-middle form, instead of data.fim_rate",
    "limit": "read only the first so many documents",
}
_ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """One source, parsed. `text` is what the user wrote; `weight` None = in proportion to its size."""

    text: str
    kind: str
    path: str
    weight: float | None = None
    options: dict[str, str] = field(default_factory=dict)

    @property
    def fim(self) -> float | None:
        """The source's own fill-in-the-middle rate, if it has one."""
        return float(self.options["fim"]) if "fim" in self.options else None

    @property
    def limit(self) -> int | None:
        """Read only so many documents; None = all."""
        return int(self.options["limit"]) if "limit" in self.options else None

    @property
    def slug(self) -> str:
        """A short name fit for a file name."""
        tail = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(self.path).name).strip("-")[:40]
        return f"{self.kind}-{tail}" if tail else self.kind


def parse_spec(text: str) -> SourceSpec:
    """Parse one source; a `GodwitError` says which part is wrong and what is allowed there."""
    body, has_query, query = text.partition("?")
    body, weight = _split_weight(body, text)
    kind, path = _split_kind(body, text)
    plugin = ROOM.load(kind)
    allowed = {**plugin.OPTIONS, **COMMON_OPTIONS}
    options = _parse_options(query, allowed, text) if has_query else {}
    if plugin.NEEDS_PATH and not path:
        raise GodwitError(f"data source {text!r}: {kind} needs a path, e.g. {plugin.EXAMPLE!r}")
    if not plugin.NEEDS_PATH and path:
        raise GodwitError(f"data source {text!r}: {kind} takes no path; write {plugin.EXAMPLE!r}")
    spec = SourceSpec(text=text, kind=kind, path=path, weight=weight, options=options)
    _check_number(spec, "fim", 0.0, 1.0)
    _check_number(spec, "limit", 1, math.inf)
    return spec


def parse_specs(texts: Sequence[str]) -> tuple[SourceSpec, ...]:
    """Parse the sources of a mix and check that they go together."""
    if isinstance(texts, str):
        raise GodwitError(f"data.sources is the text {texts!r}; give a tuple: ({texts!r},)")
    if not texts:
        raise GodwitError("data.sources is empty; give at least one source, e.g. 'stdlib' or a folder of text")
    specs = tuple(parse_spec(text) for text in texts)
    bare = [spec.text for spec in specs if spec.weight is None]
    if bare and len(bare) < len(specs):
        raise GodwitError(
            f"data source {bare[0]!r} has no weight and others have; give all of them one, e.g. '{bare[0]}@1'"
        )
    return specs


def _split_weight(body: str, text: str) -> tuple[str, float | None]:
    head, has_weight, tail = body.rpartition("@")
    # A path may hold an @ of its own: only a tail without a slash or dot-word can be meant as a weight.
    if not has_weight or "/" in tail or Path(body).exists():
        return body, None
    try:
        weight = float(tail)
    except ValueError as error:
        raise GodwitError(
            f"data source {text!r}: the weight {tail!r} after '@' is not a number; write e.g. '{head}@2'"
        ) from error
    if not (math.isfinite(weight) and weight > 0):
        raise GodwitError(f"data source {text!r}: the weight is {tail}; give a number above 0")
    return head, weight


def _split_kind(body: str, text: str) -> tuple[str, str]:
    prefix, has_kind, rest = body.partition(":")
    kinds = ROOM.names()
    if has_kind and prefix in kinds:
        return prefix, rest
    # One letter before the colon is a Windows drive.
    if has_kind and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]+", prefix) and not Path(body).exists():
        raise GodwitError(f"data source {text!r}: unknown kind {prefix!r}; {did_you_mean(prefix, kinds)}")
    if not body:
        raise GodwitError(
            f"data source {text!r} is empty; write '[kind:]path[@weight][?key=value]', kinds: {', '.join(kinds)}"
        )
    if body in kinds and not ROOM.load(body).NEEDS_PATH:
        return body, ""
    return _ENDINGS.get(Path(body).suffix.lower(), "text"), body


def _parse_options(query: str, allowed: dict[str, str], text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in query.split("&"):
        key, has_value, value = pair.partition("=")
        if not has_value or not value:
            raise GodwitError(
                f"data source {text!r}: {pair!r} after '?' is not key=value; keys: {', '.join(sorted(allowed))}"
            )
        if key not in allowed:
            raise GodwitError(f"data source {text!r}: unknown option {key!r}; {did_you_mean(key, allowed)}")
        if key in options:
            raise GodwitError(f"data source {text!r}: option {key!r} is given twice; keep one")
        options[key] = unquote(value)
    return options


def _check_number(spec: SourceSpec, key: str, least: float, most: float) -> None:
    if key not in spec.options:
        return
    given = spec.options[key]
    try:
        value = int(given) if most == math.inf else float(given)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        wanted = f"a whole number from {least}" if most == math.inf else f"a number from {least:g} to {most:g}"
        raise GodwitError(f"data source {spec.text!r}: {key}={given!r}; give {wanted}")
