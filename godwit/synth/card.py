"""The data card: README.md beside the data, in the form the Hugging Face hub reads.

Made of the rows, the settings and the journal alone, without dates and durations: the same bytes after a kill.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from godwit import __version__
from godwit.synth.costs import HEAD, Bill, rows, total
from godwit.synth.output import REJECTED, Spool
from godwit.synth.pipeline import Pipeline

REASONS_SHOWN = 12
REHEARSED = (
    "A rehearsal: the small bundled model wrote this, in short answers held to their forms by its server's grammar. It "
    "shows the way from input to data; what the rows say means nothing."
)
SHOWN = 400


class Made(NamedTuple):
    """What there is to say about a finished run.

    Attributes:
        settings: what was asked for, as in config.json.
        bills: of all answers in the journal.
        rehearsed: whether the bundled model stood in.
    """

    pipeline: Pipeline
    spool: Spool
    num_source: int
    data_name: str
    settings: dict[str, Any]
    bills: Sequence[Bill]
    rehearsed: bool = False


def card(made: Made) -> str:
    """The text of README.md."""
    pipeline, spool = made.pipeline, made.spool
    parts = [
        "---",
        f"tags: [synthetic, godwit, {pipeline.name}]",
        f"configs: [{{config_name: default, data_files: {made.data_name}}}]",
        f"size_categories: [{_size(spool.num_kept)}]",
        "---",
        "",
        f"# {pipeline.name}: {spool.num_kept:,} rows",
        "",
        f"{pipeline.about} Made by `godwit synth {pipeline.name}` (Godwit {__version__}, pipeline version "
        f"{pipeline.version}) from {made.num_source:,} input rows. Texts are model output and were not read by people; "
        "their licence follows from the input's and the models' terms, which this card does not know.",
        "",
        *([f"**{REHEARSED}**", ""] if made.rehearsed else []),
        "## Files",
        "",
        f"* `{made.data_name}`: {spool.num_kept:,} rows, sorted by id.",
        f"* `{REJECTED}`: {spool.num_rejected:,} rows that did not become data, each with status, stage and reason.",
        "* `samples.html`: rows to read, in a browser. `config.json`: the settings. `ledger.json`: calls and costs.",
        "* `journal.sqlite`: every answer with its request; the same command reuses it.",
        "",
        "## Fields",
        "",
        *(f"* `{name}`: {_kind(field.annotation)}" for name, field in pipeline.final.model_fields.items()),
        "* `provenance`: pipeline and version, models by role, seed, id and hash of the input row, and the content "
        "keys of the answers the row is made of (`key` in the journal)",
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(made.settings, indent=2, ensure_ascii=False).replace("```", "'''"),
        "```",
        "",
        "## What was left out",
        "",
        *_reasons(spool),
        "",
        "## Calls and costs",
        "",
        *_markdown(HEAD, rows(made.bills)),
        "",
        f"All answers in the journal: {total(made.bills)}"
        + (f", of which for the judge {total(made.bills, 'judge')}." if pipeline.judged else "."),
        "",
    ]
    first = next(spool.lines(kept=True), None)
    if first is not None:
        shown = json.dumps(_shortened(json.loads(first)), indent=2, ensure_ascii=False)
        parts += ["## The first row (long texts cut)", "", "````json", shown.replace("````", "'''"), "````", ""]
    return "\n".join(parts)


def _reasons(spool: Spool) -> list[str]:
    if not spool.reasons:
        return ["Nothing."]
    most = sorted(spool.reasons.items(), key=lambda item: (-item[1], item[0]))
    lines = [(status, stage, reason, str(count)) for (status, stage, reason), count in most[:REASONS_SHOWN]]
    more = len(most) - REASONS_SHOWN
    return _markdown(("status", "stage", "reason", "rows"), lines) + (
        [f"\nand {more} more reasons"] if more > 0 else []
    )


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *lines]
    return ["| " + " | ".join(_cell(cell) for cell in line) + " |" for line in cells]


def _cell(text: str) -> str:
    """One line that neither ends its cell nor opens a fence."""
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")


def _kind(hint: Any) -> str:
    plain = isinstance(hint, type) and not getattr(hint, "__args__", ())
    return hint.__name__ if plain else re.sub(r"\b(?:\w+\.)+", "", str(hint))


def _size(count: int) -> str:
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if count < limit:
            return name
    return "n>1M"


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shortened(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value[:4]] + (["..."] if len(value) > 4 else [])
    if isinstance(value, str) and len(value) > SHOWN:
        return f"{value[:SHOWN]} ... ({len(value):,} characters)"
    return value
