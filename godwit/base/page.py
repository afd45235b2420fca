"""Self-contained HTML pages for reports: one look, no scripts, nothing fetched."""

import html
from collections.abc import Iterable, Sequence

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin:2rem 0 .3rem}
table{border-collapse:collapse}td{padding:.1rem 1rem .1rem 0;vertical-align:top}td:first-child{color:#666}
pre{background:#f6f6f6;padding:.6rem .8rem;overflow-x:auto;white-space:pre-wrap}p.note{color:#666;margin:.2rem 0}
.scroll{overflow-x:auto}.big{font-size:1.25rem;margin:.6rem 0}svg{max-width:100%;height:auto}
"""
FIGURES = "td,th{padding:.1rem .9rem .1rem 0;text-align:right}td:first-child,th:first-child{text-align:left}"
"""Added to the style of pages whose tables are of numbers."""


def page(title: str, parts: Iterable[str], *, style: str = STYLE) -> str:
    """A page of HTML `parts`; `title` is plain text."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{style}</style><body>{''.join(parts)}</body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain text; one that is wider than the page scrolls by itself."""
    lines = (_line("th", head) if head else "") + "".join(_line("td", row) for row in rows)
    return f'<div class="scroll"><table>{lines}</table></div>'


def section(title: str, note: str, *parts: str) -> str:
    """A heading, a line about it (plain text, may be empty), and HTML."""
    about = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return f"<h2>{html.escape(title)}</h2>{about}{''.join(parts)}"


def _line(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
