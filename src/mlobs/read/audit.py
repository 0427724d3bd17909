"""Does a backend agree with the local record? What was sent is compared with what its source gives back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlobs.backend import ALL_KINDS, Backend
from mlobs.delivery.report import pending_events
from mlobs.delivery.state import States
from mlobs.encoding.finishing import final_content
from mlobs.errors import MlobsError, UsageError
from mlobs.journal.store import RunFolder
from mlobs.read.audit_sides import Side, given, mapping_differences

_NAMED = 5  # of missing points; all of them are counted


@dataclass(frozen=True)
class Audit:
    """What a comparison found, in metric values, and in words for everything else.

    - `sent`: values that the backend has answered for and did not reject; `stored`: those of them
      that it gives back; `missing`: those that it does not.
    - `merged`: equal values of one name and step that it keeps as one.
    - `duplicates`: copies that it stores beside what was sent once; readers may count them.
    - `unknown`: values that it gives back and that were never sent.
    - `pending`: events, of all kinds, that it has not answered for yet. They are not compared.
    - `differences`: one sentence each; of missing points the first ones.
    - `unread`: kinds that it has taken and that its source does not read, so nobody can compare them.
    """

    run_id: str
    backend: str
    sent: int
    stored: int
    missing: int
    merged: int
    duplicates: int
    unknown: int
    pending: int
    differences: tuple[str, ...]
    unread: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Everything that was sent is there, and nothing else is; copies of it may be."""
        return not (self.missing or self.unknown or self.differences)


def can_be_read(backend: Backend) -> bool:
    """Tell whether the backend has a way back."""
    return callable(getattr(backend, "source", None))


def audit(folder: RunFolder, backend: Backend) -> Audit:
    """Compare a run's record with what the backend holds of it now.

    Raises:
        UsageError: it has nothing of the run, or no `source()`.
        DeliveryError: it does not answer.
    """
    state = States(folder.delivery).refresh().of(backend.name)
    if state.ref is None:
        raise UsageError(
            f"{backend.name} has nothing of {folder.run_id} yet - "
            f"type: mlobs sync {folder.run_id} --backend {backend.name}"
        )
    if not can_be_read(backend):
        raise UsageError(f"backend {backend.name!r} has no source(): what it holds cannot be read back")
    source: Any = backend.source()  # type: ignore[attr-defined]
    kinds = backend.capabilities.kinds
    reads = kinds & getattr(source, "reads", ALL_KINDS)
    ours, theirs = given(folder, state, backend.capabilities, reads)
    for event in source.read(state.ref):
        theirs.take(event)
    copies = source.copies(state.ref) if callable(getattr(source, "copies", None)) else 0
    missing = [point for point in ours.points if point not in theirs.points]
    surplus = {point: count - ours.points[point] for point, count in theirs.points.items()}
    return Audit(
        run_id=folder.run_id,
        backend=backend.name,
        sent=ours.points.total(),
        stored=(ours.points & theirs.points).total(),
        missing=sum(ours.points[point] for point in missing),
        merged=-sum(count for count in surplus.values() if count < 0),
        duplicates=copies + sum(max(0, surplus[point]) for point in surplus if point in ours.points),
        unknown=sum(count for point, count in surplus.items() if point not in ours.points),
        pending=sum(1 for _ in pending_events(folder, state)),
        differences=tuple(_differences(folder, ours, theirs, missing)),
        unread=tuple(sorted(kinds - reads)),
    )


def _differences(folder: RunFolder, ours: Side, theirs: Side, missing: list[Any]) -> Iterator[str]:
    for name, step, value in missing[:_NAMED]:
        yield f"metric {name!r} of step {step} is missing: {value}"
    if len(missing) > _NAMED:
        yield f"and {len(missing) - _NAMED:,} more points are missing"
    yield from mapping_differences("param", ours.params, theirs.params)
    yield from mapping_differences("tag", ours.tags, theirs.tags)
    if ours.end != theirs.end:
        yield f"the run's end there: {_words(theirs.end)}; here: {_words(ours.end)}"
    for kind, facts in ours.others.items():
        lacking = (facts - theirs.others.get(kind, type(facts)())).total()
        if lacking:
            yield f"{lacking:,} of {facts.total():,} events of kind {kind!r} are missing"
    yield from _artifact_differences(folder, ours, theirs)


def _artifact_differences(folder: RunFolder, ours: Side, theirs: Side) -> Iterator[str]:
    for (path, step), (writer, event) in ours.artifacts.items():
        _, there = theirs.artifacts.get((path, step), ("", None))
        where = path if step is None else f"{path} of step {step}"
        if there is None:
            yield f"artifact {where} is missing"
        elif there.data is not None:
            try:
                is_same = final_content(folder.path, writer, event) == there.data
            except (OSError, MlobsError) as error:
                yield f"artifact {where} cannot be compared, its content is not here: {error}"
                continue
            if not is_same:
                yield f"artifact {where} has other content there"


def _words(end: tuple[str, str] | None) -> str:
    if end is None:
        return "not there"
    status, reason = end
    return f"{status} ({reason})" if reason else status
