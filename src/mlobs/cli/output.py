"""What goes to the screen: rich tables on a terminal, plain aligned text into a pipe, strict JSON."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import typer

from mlobs.text import json_bytes

_STYLES = {
    "FINISHED": "green",
    "RUNNING": "cyan",
    "FAILED": "red",
    "CRASHED": "red",
    "KILLED": "yellow",
    "ok": "green",
    "wrong": "red",
}
_FLOOR = 12  # characters that a column keeps on a narrow terminal; its text is folded, never cut


def print_json(document: Any) -> None:
    """Print one document of strict JSON: NaN and infinities are strings, times ISO 8601 in UTC."""
    typer.echo(json_bytes(document))


def print_title(text: str) -> None:
    """Print the heading of a section."""
    if not sys.stdout.isatty():
        typer.echo(f"\n{text}")
        return
    typer.echo("\n" + typer.style(text, bold=True))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print rows under headings; nothing is cut. Columns named in `right` are aligned to the right."""
    clean = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(headings, clean, right)
    else:
        typer.echo(_plain(headings, clean, right))


def printable(text: str) -> str:
    """The text in one line, with control characters (line ends, escapes) spelled out."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def number(value: float) -> str:
    """A value in six significant digits."""
    return f"{value:.6g}"


def moment(at: datetime | None) -> str:
    """A time to the second, UTC; "" if there is none."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at is not None else ""


def iso(at: datetime | None) -> str | None:
    """A time as JSON has it."""
    return at.isoformat() if at is not None else None


def duration(start: datetime | None, end: datetime | None) -> str:
    """The time between two moments in its two largest units; "" if one is not known."""
    if start is None or end is None:
        return ""
    seconds = (end - start).total_seconds()
    whole = math.floor(max(0.0, seconds))
    for unit_s, unit, part_s, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit_s:
            return f"{whole // unit_s}{unit} {whole % unit_s // part_s}{part}"
    return f"{seconds:.1f}s"


def size(size_bytes: int) -> str:
    """A size in bytes, in the unit that reads best (1 kB is 1000 bytes)."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:  # noqa: PLR2004 - the step between decimal units
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def _plain(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> str:
    widths = [max(len(line[column]) for line in (headings, *rows)) for column in range(len(headings))]
    lines = []
    for row in (headings, *rows):
        cells = [
            cell.rjust(width) if heading in right else cell.ljust(width)
            for heading, cell, width in zip(headings, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _print_rich(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    floors = []
    for column, heading in enumerate(headings):
        widest = max((len(row[column]) for row in (headings, *rows)), default=0)
        floors.append(widest if column == 0 else min(widest, _FLOOR))
        justify: Any = "right" if heading in right else "left"
        table.add_column(
            Text(heading), justify=justify, no_wrap=column == 0, overflow="fold", min_width=floors[-1]
        )
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console = Console()
    console.width = max(console.width, sum(floors) + 2 * len(floors))
    console.print(table)
