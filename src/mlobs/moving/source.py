"""What a source says of its runs, and what became of each in the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from mlobs.events import Artifact, Event, RunStarted

IMPORTED_FROM = "mlobs.imported_from"  # the tag that holds a run's identity at its source
IMPORTED_PLACE = "mlobs.imported_place"  # where that was, for people: it may have moved since

Outcome: TypeAlias = Literal["new", "grown", "unchanged", "skipped", "failed"]


@dataclass(frozen=True)
class Payload:
    """An artifact whose content lies in `file`; a temporary one is moved into the store."""

    event: Artifact
    file: Path
    is_temporary: bool = True


Piece: TypeAlias = Event | Payload


@dataclass(frozen=True)
class SourceRun:
    """A run at a source.

    Args:
        identity: what names it for ever, wherever the source is moved to.
        start: its start; the importer fills in ids, unless mlobs recorded the run itself (`is_ours`).
        pieces: reads everything behind the start, oldest first; an end comes last.
        place: where it is, for people.
        parent: the parent's identity.
        is_ours: mlobs recorded it and delivered it there.
        has_times: its points have times of their own, by which they are known again.
        left_out: what the source holds and mlobs has no form for, counted while `pieces` are read.
    """

    identity: str
    start: RunStarted
    pieces: Callable[[], Iterator[Piece]]
    place: str = ""
    parent: str | None = None
    is_ours: bool = False
    has_times: bool = True
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Imported:
    """What became of one run of a source.

    `outcome`: "new"; "grown" (it was imported before, and there was more now); "unchanged"; "skipped"
    (mlobs recorded it, and it is in this store); "failed" (`reason` says why; the others went on).
    `points` counts the metric values that were added. `left_out` counts what has no form here.
    """

    run_id: str
    name: str
    outcome: Outcome
    points: int = 0
    reason: str = ""
    left_out: dict[str, int] = field(default_factory=dict)
