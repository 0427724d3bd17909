"""Confusion matrices as tables with shaded cells: for the eye, for screen readers, and to copy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from mlobs.errors import MlobsError
from mlobs.read.artifact import StoredArtifact
from mlobs.read.html import escaped, number
from mlobs.read.record import RunRecord
from mlobs.reporting.markup import table
from mlobs.reporting.table import swatch

MOST_LABELS = 30
MOST_MATRICES = 60
_DARK = 0.55  # from this share on the cell is so dark that its text is light


def matrices_html(records: Sequence[RunRecord]) -> str:
    """The latest confusion matrix of each path of each run; "" if there is none."""
    of_path: dict[str, list[tuple[int, StoredArtifact]]] = {}
    for run, record in enumerate(records):
        latest = {one.path: one for one in record.artifacts if one.role == "confusion_matrix"}
        for path, artifact in latest.items():
            if artifact.media_type == "application/json":
                of_path.setdefault(path, []).append((run, artifact))
    room, parts = MOST_MATRICES, []
    for path, several in of_path.items():
        shown = several[: max(0, room)]
        room -= len(shown)
        figures = "".join(_figure(run, records[run], artifact) for run, artifact in shown)
        more = f"<p>{len(several) - len(shown)} more are not shown.</p>" if len(several) > len(shown) else ""
        parts.append(
            f'<h3>{escaped(path.removesuffix(".json"))}</h3><div class="matrices">{figures}</div>{more}'
        )
    return "".join(parts)


def _figure(run: int, record: RunRecord, artifact: StoredArtifact) -> str:
    step = f", step {artifact.step:,}" if artifact.step is not None else ""
    return (
        f'<figure data-run="{run}"><figcaption>{swatch(run)}{escaped(record.name or record.run_id)}{step}'
        f"</figcaption>{_table(artifact)}</figure>"
    )


def _table(artifact: StoredArtifact) -> str:
    try:
        frame = artifact.frame()
    except (MlobsError, ValueError, TypeError, KeyError) as error:
        return f"<p>It cannot be read: {escaped(error)}</p>"
    if len(frame) > MOST_LABELS:
        return f"<p>{len(frame)} labels are too many for a page; the run's artifact has the numbers.</p>"
    rows = "".join(
        f'<tr><th scope="row">{label}</th>{"".join(_cells(row))}</tr>'
        for label, row in zip(map(escaped, frame.index), frame.to_numpy().tolist(), strict=True)
    )
    return table("Confusion matrix", ("actual \\ predicted", *frame.columns), rows, "matrix")


def _cells(row: Sequence[Any]) -> Iterator[str]:
    """Each cell is shaded by its share of its row: how many of this label were taken for that one."""
    finite = [value for value in row if math.isfinite(value) and value > 0]
    total = sum(finite)
    for value in row:
        share = value / total if total and math.isfinite(value) and value > 0 else 0.0
        dark = " dark" if share >= _DARK else ""
        title = f' title="{share:.1%} of the row"' if total else ""
        yield f'<td class="n{dark}" style="--share:{share:.3f}"{title}>{number(value)}</td>'
