"""Runs recorded elsewhere become ordinary runs of the store; what is there already is not added again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from mlobs.errors import MlobsError, UsageError
from mlobs.events import Artifact, Metrics, RunFinished, RunStarted, Tags
from mlobs.journal.blobs import INLINE_BYTES
from mlobs.journal.store import RunFolder, Store, run_id_of
from mlobs.journal.writer import Writer
from mlobs.moments import utc
from mlobs.moving.held import Held, origin_of
from mlobs.moving.source import (
    IMPORTED_FROM,
    IMPORTED_PLACE,
    Imported,
    Outcome,
    Payload,
    Piece,
    SourceRun,
)
from mlobs.moving.turn import turn
from mlobs.read.location import StoreLike, open_store
from mlobs.read.status import NOBODY

KINDS = ("mlflow", "tensorboard", "wandb", "csv")
_SAFE_ID = re.compile(r"[\w-][\w.-]{0,200}")  # it names a folder
_TICK_S = 1e-6


def import_runs(
    kind: str, location: str, *, experiment: str | Iterable[str] | None = None, store: StoreLike = None
) -> list[Imported]:
    """Bring the runs of another tracker into the store, and return what became of each, parents first.

    Names, steps, times, NaN and infinities survive. Imported again, a run that has grown gets what is new,
    and nothing is doubled; a run that mlobs recorded itself and that is in the store is left as it is.

    Args:
        kind: "mlflow" (`location` is a tracking URI, a database or a folder `mlruns`), "tensorboard" (a log
            folder), "wandb" (a folder with `offline-run-*` or a file `run-*.wandb`), "csv" (a file).
        location: where the runs are.
        experiment: of MLflow, only these experiments; of the others, the name that theirs gets.
        store: where they go; made if it is missing.

    Raises:
        UsageError: there is nothing of that kind at the location, or another import is writing to the store.
        StoreError: the store cannot be written.
        MissingPackage: `mlflow` or `tensorboard`, which read their own files, is not installed. For `wandb`
            it is a UsageError.
        DeliveryError: a server does not answer, or refuses the credentials.
    """
    return list(importing(kind, location, experiment=experiment, store=store))


def importing(
    kind: str, location: str, *, experiment: str | Iterable[str] | None = None, store: StoreLike = None
) -> Iterator[Imported]:
    """Do what `import_runs` does, and yield each run once it is there."""
    names = [experiment] if isinstance(experiment, str) else list(experiment or ())
    runs = parents_first(_source(kind, location, names))  # before a store is made for nothing
    opened = (
        Store(Path(store).expanduser().absolute()) if isinstance(store, str | Path) else open_store(store)
    )
    opened.create()
    with turn(opened.path):
        known = _Known(opened)
        for run in runs:
            yield _imported(known, run)


def _source(kind: str, location: str, names: list[str]) -> Iterable[SourceRun]:
    if kind == "mlflow":
        from mlobs.moving.mlflow_runs import mlflow_runs

        return mlflow_runs(location, names)
    if kind not in KINDS:
        raise UsageError(f"nothing can be imported from {kind!r}; expected one of {', '.join(KINDS)}")
    if len(names) > 1:
        raise UsageError(f"{len(names)} experiments were named for runs of {kind}; name one")
    name = names[0] if names else None
    if kind == "tensorboard":
        from mlobs.moving.tensorboard_runs import tensorboard_runs

        return tensorboard_runs(location, name)
    if kind == "wandb":
        from mlobs.moving.wandb_runs import wandb_runs

        return wandb_runs(location, name)
    from mlobs.moving.csv_files import csv_runs

    return csv_runs(location, name)


def parents_first(runs: Iterable[SourceRun]) -> list[SourceRun]:
    """Order runs by their start, each behind its parent; of one moment, as the source has them."""
    ordered = sorted(runs, key=lambda run: run.start.at)
    by_identity = {run.identity: run for run in ordered}
    placed: dict[str, SourceRun] = {}
    for run in ordered:
        line = []
        ahead: SourceRun | None = run
        while ahead is not None and ahead.identity not in placed and ahead not in line:
            line.append(ahead)
            ahead = by_identity.get(ahead.parent or "")
        placed |= {one.identity: one for one in reversed(line)}
    return list(placed.values())


@dataclass
class _Known:
    """The runs of the store, found by their identity elsewhere."""

    store: Store
    by_end: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        folder = self.store.path / "runs"
        for entry in folder.iterdir() if folder.is_dir() else ():
            self.by_end.setdefault(entry.name.rpartition("-")[2], []).append(entry.name)

    def find(self, identity: str) -> RunFolder | None:
        """The run that was imported under this identity."""
        end = run_id_of(0.0, identity).rpartition("-")[2]
        folders = (self.store.run(name) for name in self.by_end.get(end, ()))
        return next((folder for folder in folders if origin_of(folder) in (identity, "")), None)

    def of_id(self, run_id: str) -> RunFolder | None:
        """The run of this id."""
        folder = self.store.run(run_id)
        return folder if folder.path.is_dir() else None

    def add(self, folder: RunFolder) -> None:
        """Take note of a run that was made now."""
        self.by_end.setdefault(folder.run_id.rpartition("-")[2], []).append(folder.run_id)


def _imported(known: _Known, run: SourceRun) -> Imported:
    is_ours = run.is_ours and _SAFE_ID.fullmatch(run.start.run_id) is not None
    run_id = run.start.run_id if is_ours else ""
    try:
        run_id = run_id or run_id_of(_checked(run.start.at), run.identity)
        folder = known.of_id(run_id) if is_ours else known.find(run.identity)
        if folder is None:
            return _made(known, run, run_id, is_ours=is_ours)
        run_id = folder.run_id
        if is_ours and origin_of(folder) not in (run.identity, ""):
            return Imported(run_id, run.start.name, "skipped", reason="it is in this store already, in full")
        return _grown(known, folder, run)
    except Exception as error:  # what one run holds may be anything; the others are not to suffer
        reason = str(error) if isinstance(error, MlobsError) else f"{type(error).__name__}: {error}"
        return Imported(run_id, run.start.name, "failed", reason=reason)


def _checked(at: float) -> float:
    """The start of a run, which names it.

    Raises:
        UsageError: no clock has shown it.
    """
    if at and utc(at) is None:
        raise UsageError(f"its start is {at!r}; expected Unix seconds")
    return at


def _made(known: _Known, run: SourceRun, run_id: str, *, is_ours: bool) -> Imported:
    folder = known.store.new_run(run_id)
    known.add(folder)
    with closing(_Writing(folder, is_opener=True)) as writing:
        writing.take(_start(known, run, run_id, is_ours=is_ours))
        writing.take(_origin(known, run))
        for piece in run.pieces():
            writing.take(piece)
    return Imported(run_id, run.start.name, "new", writing.points, left_out=dict(run.left_out))


def _start(known: _Known, run: SourceRun, run_id: str, *, is_ours: bool) -> RunStarted:
    parent = known.find(run.parent) if run.parent else None
    return msgspec.structs.replace(
        run.start,
        run_id=run_id,
        name=run.start.name or f"run-{run_id.rpartition('-')[2]}",
        process=NOBODY,
        parent_run_id=run.start.parent_run_id if is_ours else parent and parent.run_id,
        backends=(),
    )


def _origin(known: _Known, run: SourceRun) -> Tags:
    values = {IMPORTED_FROM: run.identity, IMPORTED_PLACE: run.place}
    if run.parent and not run.is_ours and known.find(run.parent) is None:
        values["mlobs.imported_parent"] = run.parent  # not among the runs that were imported
    return Tags(run.start.at, values)


def _grown(known: _Known, folder: RunFolder, run: SourceRun) -> Imported:
    """Add what the run has now and the store has not; an end that changed opens another attempt."""
    held = Held.of(folder, has_times=run.has_times)
    with closing(_Writing(folder, is_opener=not held.starts)) as writing:
        end = _add(known, folder, run, held, writing)
        if end is not None and held.end is None:
            writing.take(end)
    reopened = held.end is not None and not _stands(held.end, end, has_news=writing.events > 0)
    if reopened:
        _reopen(folder, held, end, max(held.latest, writing.latest))
    outcome: Outcome = "grown" if writing.events or reopened else "unchanged"
    left_out = dict(run.left_out)
    return Imported(folder.run_id, run.start.name, outcome, writing.points, left_out=left_out)


def _add(
    known: _Known, folder: RunFolder, run: SourceRun, held: Held, writing: _Writing
) -> RunFinished | None:
    """Record what is new but the end, which is returned."""
    if not held.starts:  # its import was broken off right at its beginning
        writing.take(_start(known, run, folder.run_id, is_ours=run.is_ours))
    if IMPORTED_FROM not in held.tags:
        writing.take(_origin(known, run))
    end = None
    for piece in run.pieces():
        if isinstance(piece, RunFinished):
            end = piece
            continue
        for new in held.lacks(piece):
            writing.take(new)
    return end


def _stands(recorded: RunFinished, now: RunFinished | None, *, has_news: bool) -> bool:
    """Tell whether the recorded end is still true; one that `mlobs repair` gave is, while nothing is new."""
    if now is None:
        return recorded.status == "CRASHED" and not has_news
    return (recorded.status, recorded.at) == (now.status, now.at)


def _reopen(folder: RunFolder, held: Held, end: RunFinished | None, latest: float) -> None:
    """Record that the run was gone on with after its end, and how that ended."""
    opener, before = max(held.starts, key=lambda one: (one[1].attempt, one[1].at))
    start = msgspec.structs.replace(
        before, at=latest + _TICK_S, attempt=before.attempt + 1, resumed_from=opener, backends=()
    )
    with closing(_Writing(folder, is_opener=True)) as writing:
        writing.take(start)
        if end is not None:
            writing.take(end)


class _Writing:
    """The journal of one import; it is made when the first event comes."""

    def __init__(self, folder: RunFolder, *, is_opener: bool) -> None:
        self._folder, self._is_opener = folder, is_opener
        self._writer: Writer | None = None
        self.points = self.events = 0
        self.latest = 0.0

    def take(self, piece: Piece) -> None:
        """Record a piece."""
        if self._writer is None:
            self._writer = Writer(
                self._folder.path, self._folder.run_id, is_opener=self._is_opener, author=NOBODY
            )
        writer = self._writer
        event = piece
        if isinstance(piece, Payload):
            ordinal, size_bytes = writer.keep_file(piece.file, is_ours=piece.is_temporary)
            event = msgspec.structs.replace(piece.event, blob=ordinal, size_bytes=size_bytes)
        elif isinstance(piece, Artifact) and piece.data is not None and len(piece.data) > INLINE_BYTES:
            event = msgspec.structs.replace(piece, blob=writer.keep_bytes(piece.data), data=None)
        elif isinstance(piece, Metrics):
            self.points += len(piece.values)
        assert not isinstance(event, Payload)
        writer.append(event)
        self.events += 1
        self.latest = max(self.latest, getattr(event, "at", 0.0))

    def close(self) -> None:
        """Close the journal, if there is one."""
        if self._writer is not None:
            self._writer.close()
