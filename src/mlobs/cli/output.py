"""What goes to the screen: rich tables on a terminal, plain aligned text into a pipe, strict JSON."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import typer

from mlobs import text
from mlobs.text import json_bytes, printable

_STYLES = {
    "FINISHED": "green",
    "RUNNING": "cyan",
    "FAILED": "red",
    "CRASHED": "red",
    "KILLED": "yellow",
    "ok": "green",
    "wrong": "red",
}
_DIFF_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
_FLOOR = 12  # characters that a column keeps on a narrow terminal; its text is folded, never cut


def print_json(document: Any) -> None:
    """Print one document of strict JSON: NaN and infinities are strings, times ISO 8601 in UTC."""
    typer.echo(json_bytes(document))


def print_csv(headings: Sequence[str] | None, rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as CSV, lines ending with LF: times ISO 8601 in UTC, floats exact, None empty.

    Without headings they go on with what was printed before.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if headings is not None:
        writer.writerow(headings)
    writer.writerows([[_csv_cell(value) for value in row] for row in rows])
    typer.echo(out.getvalue().encode("utf-8", "backslashreplace"), nl=False)  # of a text it drops colours


def print_title(title: str) -> None:
    """Print the heading of a section."""
    if not sys.stdout.isatty():
        typer.echo(f"\n{title}")
        return
    typer.echo("\n" + typer.style(title, bold=True))


def print_lines(title: str, lines: Sequence[str], *, is_diff: bool = False) -> None:
    """Print lines under a heading, nothing if there are none; those of a diff in its colours."""
    if lines:
        print_title(title)
    for line in lines:
        colour = _DIFF_COLOURS.get(line[:1]) if is_diff else None
        typer.echo(typer.style(printable(line), fg=colour) if colour else printable(line))


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    marked: Sequence[bool] = (),
) -> None:
    """Print rows under headings; nothing is cut. Columns named in `right` are aligned to the right.

    Rows that are `marked` stand out on a terminal.
    """
    clean = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(headings, clean, right, marked)
    else:
        typer.echo(_plain(headings, clean, right))


def number(value: float) -> str:
    """A value in six significant digits."""
    return f"{value:.6g}"


def moment(at: datetime | None) -> str:
    """A time to the second, UTC; "" if there is none."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at is not None else ""


def iso(at: datetime | None) -> str | None:
    """A time as JSON has it."""
    return at.isoformat() if at is not None else None


def duration(seconds: float | None) -> str:
    """A time in its two largest units; "" if it is not known."""
    return "" if seconds is None else text.duration(seconds)


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


def _csv_cell(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    return iso(value) if isinstance(value, datetime) else text.param_text(value)


def _print_rich(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[str],
    marked: Sequence[bool],
) -> None:
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
    for index, row in enumerate(rows):
        style = "bold yellow" if index < len(marked) and marked[index] else None
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row), style=style)
    console = Console()
    console.width = max(console.width, sum(floors) + 2 * len(floors))
    console.print(table)
