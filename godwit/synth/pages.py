"""Pages to read the rows in: `samples.html` and, for more rows than one page takes, `samples/0002.html` and so on.

Static, self-contained, without scripts; all text is escaped and pictures are not fetched. A row is folded until it is
clicked, and a browser lays out only what is open or in view, so that big sets open at once. At most `most` rows, spread
evenly, and as many of those given up, each with the reason and what the model had said.
"""

import html
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from godwit.base.files import atomic_folder, write_atomic
from godwit.base.journal import Journal
from godwit.base.page import STYLE, page, section, table
from godwit.synth.card import REHEARSED, Made
from godwit.synth.costs import HEAD, rows, total

PER_PAGE = 50
MOST = 500
# Of one text; the rest is in the file.
SHOWN = 60_000
SUMMARY = 110
LONG_WORD = 12  # a text without spaces of more characters is no name, unless it is ASCII
# Answers shown of a row that was given up, and characters of each.
ANSWERS, SHOWN_ANSWER = 4, 4000
_STYLE = STYLE + (
    "details{border:1px solid #ddd;margin:.3rem 0;padding:.2rem .7rem;content-visibility:auto;"
    "contain-intrinsic-size:auto 2rem;overflow-wrap:anywhere}summary{cursor:pointer;padding:.2rem 0}"
    "summary b{margin-right:.8rem}h3{font-size:.9rem;color:#666;margin:.8rem 0 .2rem}details pre{margin:.2rem 0}"
    "th{padding:.1rem 1rem .1rem 0;text-align:left}td{overflow-wrap:break-word}"
    "nav{margin:1rem 0}nav a,nav b{margin-right:.6rem}.gone b{color:#b00}"
)
_POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    'img-src data:">'
)


def write_pages(made: Made, folder: Path, journal: Journal | None = None, *, most: int = MOST) -> Path:
    """Write the pages; returns the first one's path.

    Args:
        journal: where what the model said in rows given up is looked up; None: it is not shown.
    """
    spool = made.spool
    kept = list(_spread(spool.lines(kept=True), spool.num_kept, most))
    gone = list(_spread(spool.lines(kept=False), spool.num_rejected, most))
    chunks = [kept[start : start + PER_PAGE] for start in range(0, len(kept), PER_PAGE)] or [[]]
    path = folder / "samples.html"
    write_atomic(path, _first(made, chunks, gone, journal))
    rest = folder / "samples"
    if len(chunks) == 1:
        shutil.rmtree(rest, ignore_errors=True)
        return path
    with atomic_folder(rest) as inner:
        for number, chunk in enumerate(chunks[1:], start=2):
            title = f"{made.pipeline.name}, page {number} of {len(chunks)}"
            parts = [_POLICY, f"<h1>{html.escape(title)}</h1>", _links(len(chunks), number), *map(_row, chunk)]
            write_atomic(inner / f"{number:04d}.html", page(title, parts, style=_STYLE))
    return path


def _first(made: Made, chunks: Sequence[Sequence[bytes]], gone: Sequence[bytes], journal: Journal | None) -> str:
    spool, name = made.spool, made.pipeline.name
    shown = sum(map(len, chunks))
    parts = [
        _POLICY,
        f"<h1>{html.escape(name)}: {spool.num_kept:,} rows</h1>",
        f'<p class="note">{html.escape(made.pipeline.about)} From {made.num_source:,} input rows; '
        f"{spool.num_rejected:,} {'was' if spool.num_rejected == 1 else 'were'} left out.</p>",
    ]
    if made.rehearsed:
        parts.append(f'<p class="note"><b>{html.escape(REHEARSED)}</b></p>')
    if spool.reasons:
        most = sorted(spool.reasons.items(), key=lambda item: (-item[1], item[0]))[:20]
        lines = [(str(count), *reason) for reason, count in most]
        parts.append(section("Left out", "", table(("rows", "status", "stage", "reason"), lines)))
    parts.append(section("Calls", f"in all: {total(made.bills)}", table(HEAD, rows(made.bills))))
    note = "click a row to read it" + (f"; {shown:,} of {spool.num_kept:,}" if shown < spool.num_kept else "")
    if not spool.num_kept:
        note = "none: no row passed all checks. What the model said instead, and what was wrong with it, is below"
    parts.append(section("Rows", note, _links(len(chunks), 1), *map(_row, chunks[0])))
    if gone:
        note = f"{len(gone):,} of {spool.num_rejected:,}; click one for the reason and what the model said"
        # Where there is nothing else to read, the first lies open.
        rows_gone = [_gone(line, journal, is_open=not spool.num_kept and not place) for place, line in enumerate(gone)]
        parts.append(section("Rows given up", note, *rows_gone))
    return page(f"{name}: samples", parts, style=_STYLE)


def _spread(lines: Iterator[bytes], count: int, most: int) -> Iterator[bytes]:
    if count <= most:
        return lines
    places = {index * count // most for index in range(most)}
    return (line for place, line in enumerate(lines) if place in places)


def _links(count: int, here: int) -> str:
    if count == 1:
        return ""
    up = "" if here == 1 else "../"
    names = {1: f"{up}samples.html"}
    links = [
        f"<b>{number}</b>"
        if number == here
        else f'<a href="{names.get(number) or ("samples/" if here == 1 else "") + f"{number:04d}.html"}">{number}</a>'
        for number in range(1, count + 1)
    ]
    return f"<nav>{' '.join(links)}</nav>"


def _row(line: bytes) -> str:
    record = json.loads(line)
    fields = {name: value for name, value in record.items() if name not in ("id", "provenance")}
    return _folded(record["id"], _first_text(fields), fields, record["provenance"])


def _gone(line: bytes, journal: Journal | None, *, is_open: bool) -> str:
    record = json.loads(line)
    head = f"{record['status']} at {record['stage']}: {record['reason']}"
    fields = {"reason": [record["reason"]]}
    keys = record["provenance"].get("prompt_hashes", [])
    # A reason begins with the call it is about; else those of the stage are the nearest.
    about = record["reason"].partition(":")[0]
    for stage, finish, text in journal.of_row(keys, first=about, most=ANSWERS) if journal else ():
        title = f"the model said ({stage}{', cut at its token limit' if finish == 'length' else ''})"
        cut = f" ... {len(text) - SHOWN_ANSWER:,} more characters" if len(text) > SHOWN_ANSWER else ""
        fields.setdefault(title, []).append(text[:SHOWN_ANSWER] + cut or "(nothing)")
    if len(keys) > ANSWERS and journal:
        fields["and"] = [f"{len(keys) - ANSWERS:,} more answers, in journal.sqlite"]
    return _folded(record["id"], head, fields, record["provenance"], mark="gone", is_open=is_open)


def _folded(
    name: str, head: str, fields: dict[str, Any], provenance: dict[str, Any], *, mark: str = "", is_open: bool = False
) -> str:
    """A row: what is short as a table, then the texts, then where it came from."""
    short = {key: value for key, value in fields.items() if _is_short(value)}
    parts = [_figures(short)] if short else []
    parts += [_titled(key, _value(value)) for key, value in fields.items() if key not in short]
    parts.append(_titled("provenance", _figures(provenance)))
    first = html.escape(" ".join(head[:300].split())[:SUMMARY])
    head = f"<summary><b>{html.escape(name)}</b>{first}</summary>"
    return f'<details class="{mark}"{" open" if is_open else ""}>{head}{"".join(parts)}</details>'


def _titled(title: str, inside: str) -> str:
    return f"<h3>{html.escape(title)}</h3>{inside}"


def _is_short(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= 60)


def _first_text(value: Any) -> str:
    """The first text in JSON values that is more than a word (some scripts have no spaces): what a row is told by."""
    if isinstance(value, dict):
        value = [item for key, item in value.items() if key != "role"]
    if isinstance(value, list):
        return next((text for item in value if (text := _first_text(item))), "")
    if not isinstance(value, str):
        return ""
    return value if " " in value.strip() or (len(value) > LONG_WORD and not value.isascii()) else ""


def _figures(values: dict[str, Any]) -> str:
    return table((), [(str(key), _spelled(value)) for key, value in values.items()])


def _spelled(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = " ".join(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ... {len(text) - SHOWN:,} more characters"


def _value(value: Any) -> str:
    """Messages and texts one under the other, lists of small objects as a table, everything else as JSON."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        if all("role" in item for item in value):
            return "".join(_titled(str(item["role"]), _value(item.get("content"))) for item in value)
        names = list(value[0])
        if all(list(item) == names for item in value) and len(value) <= MOST:
            return table(names, [[_spelled(item[name]) for name in names] for item in value])
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return _text("\n".join(value)) if all(map(_is_short, value)) else "".join(map(_text, value[:MOST]))
    return _text(json.dumps(value, ensure_ascii=False, indent=1))


def _text(text: str) -> str:
    cut = f"\n... {len(text) - SHOWN:,} more characters" if len(text) > SHOWN else ""
    return f"<pre>{html.escape(text[:SHOWN] + cut)}</pre>"
