"""Pages to read the rows in: `samples.html` and, for more rows than one page takes, `samples/0002.html` and so on.

Static, self-contained, without scripts; all text is escaped and pictures are not fetched. A row is folded until it is
clicked, and a browser lays out only what is open or in view, so that big sets open at once. At most `most` rows, spread
evenly, and as many of those given up.
"""

import html
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from godwit.base.files import atomic_folder, write_atomic
from godwit.base.page import STYLE, page, section, table
from godwit.synth.card import Made
from godwit.synth.costs import HEAD, rows, total

PER_PAGE = 50
MOST = 500
# Of one text; the rest is in the file.
SHOWN = 60_000
_STYLE = (
    STYLE
    + "details{border:1px solid #ddd;margin:.3rem 0;padding:.2rem .7rem;content-visibility:auto;"
    + "contain-intrinsic-size:auto 2rem;overflow-wrap:anywhere}summary{cursor:pointer;padding:.2rem 0}"
    + "summary b{margin-right:.8rem}h3{font-size:.9rem;color:#666;margin:.8rem 0 .2rem}details pre{margin:.2rem 0}"
    + "nav{margin:1rem 0}nav a,nav b{margin-right:.6rem}.gone b{color:#b00}td,th{text-align:left}"
)
_POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    'img-src data:">'
)


def write_pages(made: Made, folder: Path, *, most: int = MOST) -> Path:
    """Write the pages; returns the first one's path."""
    spool = made.spool
    kept = list(_spread(spool.lines(kept=True), spool.num_kept, most))
    gone = list(_spread(spool.lines(kept=False), spool.num_rejected, most))
    chunks = [kept[start : start + PER_PAGE] for start in range(0, len(kept), PER_PAGE)] or [[]]
    path = folder / "samples.html"
    write_atomic(path, _first(made, chunks, gone))
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


def _first(made: Made, chunks: Sequence[Sequence[bytes]], gone: Sequence[bytes]) -> str:
    spool, name = made.spool, made.pipeline.name
    shown = sum(map(len, chunks))
    parts = [
        _POLICY,
        f"<h1>{html.escape(name)}: {spool.num_kept:,} rows</h1>",
        f'<p class="note">{html.escape(made.pipeline.about)} From {made.num_source:,} input rows.</p>',
    ]
    if spool.reasons:
        most = sorted(spool.reasons.items(), key=lambda item: (-item[1], item[0]))[:20]
        lines = [(str(count), *reason) for reason, count in most]
        parts.append(section("Left out", "", table(("rows", "status", "stage", "reason"), lines)))
    parts.append(section("Calls", f"in all: {total(made.bills)}", table(HEAD, rows(made.bills))))
    note = "click a row to read it" + (f"; {shown:,} of {spool.num_kept:,}" if shown < spool.num_kept else "")
    parts.append(section("Rows", note, _links(len(chunks), 1), *map(_row, chunks[0])))
    if gone:
        note = f"{len(gone):,} of {spool.num_rejected:,}; why each row did not become data"
        parts.append(section("Rows given up", note, *map(_gone, gone)))
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
    head = next((value for value in fields.values() if isinstance(value, str) and value), json.dumps(fields))
    return _folded(record["id"], head, {**fields, "provenance": record["provenance"]})


def _gone(line: bytes) -> str:
    record = json.loads(line)
    head = f"{record['status']} at {record['stage']}: {record['reason']}"
    return _folded(record["id"], head, {"provenance": record["provenance"]}, mark="gone")


def _folded(name: str, head: str, fields: dict[str, Any], *, mark: str = "") -> str:
    short = " ".join(head[:300].split())[:110]
    inside = "".join(f"<h3>{html.escape(key)}</h3>{_value(value)}" for key, value in fields.items())
    summary = f"<summary><b>{html.escape(name)}</b>{html.escape(short)}</summary>"
    return f'<details class="{mark}">{summary}{inside}</details>'


def _value(value: Any) -> str:
    """Messages and lists of texts one under the other, everything else as JSON."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list) and value and all(isinstance(item, dict) and "role" in item for item in value):
        return "".join(f"<h3>{html.escape(str(item['role']))}</h3>{_value(item.get('content'))}" for item in value)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value) and len(value) <= 50:
        return "".join(map(_text, value))
    return _text(json.dumps(value, ensure_ascii=False, indent=1))


def _text(text: str) -> str:
    cut = f"\n... {len(text) - SHOWN:,} more characters" if len(text) > SHOWN else ""
    return f"<pre>{html.escape(text[:SHOWN] + cut)}</pre>"
