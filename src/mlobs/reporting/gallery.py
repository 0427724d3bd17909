"""Images of all runs: a row for each run, a column for each step, so that both can be compared by eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlobs.read.html import escaped
from mlobs.read.record import RunRecord
from mlobs.reporting.markup import table
from mlobs.reporting.pictures import MOST_STEPS, SIDE_PX, Picture, Pictures
from mlobs.reporting.table import swatch


def gallery_html(records: Sequence[RunRecord], pictures: Pictures) -> str:
    """A table of pictures for each path; "" if there are none."""
    if not pictures.of and not pictures.left_out:
        return ""
    note = f"Up to {MOST_STEPS} steps of each, evenly chosen, and at most {SIDE_PX} pixels wide."
    if pictures.left_out:
        note += f" {pictures.left_out:,} more are not in this file; the runs have them."
    tables = "".join(_table(path, of_runs, records) for path, of_runs in pictures.of.items())
    return f'<p class="note">{note}</p>{tables}'


def _table(path: str, of_runs: Mapping[int, list[Picture]], records: Sequence[RunRecord]) -> str:
    steps = sorted({one.step for several in of_runs.values() for one in several}, key=_order)
    rows = "".join(_row(path, run, records[run], of_runs[run], steps) for run in sorted(of_runs))
    return f"<h3>{escaped(path)}</h3>{table(path, ('run', *map(_label, steps)), rows, 'gallery')}"


def _row(
    path: str, run: int, record: RunRecord, pictures: Sequence[Picture], steps: Sequence[int | None]
) -> str:
    name = escaped(record.name or record.run_id)
    of_step = {one.step: one for one in pictures}
    cells = "".join(_cell(of_step.get(step), f"{escaped(path)} of {name}, {_label(step)}") for step in steps)
    return f'<tr data-run="{run}"><th scope="row">{swatch(run)}{name}</th>{cells}</tr>'


def _cell(picture: Picture | None, alternative: str) -> str:
    if picture is None:
        return "<td></td>"
    small = ' class="pixels"' if 0 < max(picture.width, picture.height) <= 96 else ""  # noqa: PLR2004 - as in pictures
    size = f' width="{picture.width}" height="{picture.height}"' if picture.width else ""
    return f'<td><img src="{picture.source}" alt="{alternative}" loading="lazy"{size}{small}></td>'


def _order(step: int | None) -> tuple[bool, int]:
    return step is not None, step or 0


def _label(step: int | None) -> str:
    return "no step" if step is None else f"step {step:,}"
