"""Tables for a terminal."""

from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)) -> list[str]:
    """Rows of cells as lines, columns as wide as their widest cell; numbers to the right, columns in `left` not.

    >>> aligned([("plan", "loss"), ("FSS", "3.8"), ("FFSS", "12")])
    ['plan  loss', 'FSS    3.8', 'FFSS    12']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
