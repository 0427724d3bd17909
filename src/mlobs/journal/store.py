"""The store: a folder of runs, each a folder of plain files that can be copied while they grow.

STORE/runs/RUN_ID/WRITER.journal       the record, one file per writer
STORE/runs/RUN_ID/blobs/WRITER-N       payloads too large for a record; .final: in the final form
STORE/runs/RUN_ID/delivery/            what each backend has
STORE/snapshots/                       code and environments, once each; runs hold links to them
STORE/datasets/                        the versions of datasets that runs have used
STORE/senders/                         the senders' own output; each file is locked while its sender lives
STORE/cache/                           what makes reading fast; it may be deleted
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from mlobs.errors import StoreError, UsageError
from mlobs.journal import access
from mlobs.journal.reader import Reader
from mlobs.journal.writer import JOURNAL_SUFFIX

_CLOSE = 0.6  # how alike two ids are for one to be a slip of the other; difflib's own measure, 0 to 1
_OWN_ID = re.compile(r"\d{8}-\d{6}-\d{6}-[0-9a-f]{6}")


def new_run_id(at: float) -> str:
    """Name a run: unique, and sortable by its start (UTC, microseconds)."""
    return f"{_moment(at)}-{os.urandom(3).hex()}"


def run_id_of(at: float, identity: str) -> str:
    """Name a run that was recorded elsewhere: the same id for the same identity and start.

    Its end, behind the last "-", depends on the identity alone.
    """
    return f"{_moment(max(at, 0.0))}-{hashlib.blake2b(identity.encode(), digest_size=3).hexdigest()}"


@dataclass(frozen=True)
class RunFolder:
    """One run on the disk."""

    path: Path

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.path.name

    @property
    def store(self) -> Path:
        """The store's folder."""
        return self.path.parent.parent

    @property
    def delivery(self) -> Path:
        """The folder of the delivery state."""
        return self.path / "delivery"

    def journal(self, writer: str) -> Path:
        """The file of one writer."""
        return self.path / f"{writer}{JOURNAL_SUFFIX}"

    def sibling(self, run_id: str) -> RunFolder:
        """Another run of the same store, which may not exist."""
        return RunFolder(self.path.parent / run_id)

    def journals(self) -> list[Path]:
        """The files of all writers so far, in no particular order; of a run that was removed, none."""
        try:
            names = os.listdir(self.path)  # noqa: PTH208 - a list of names is what is wanted
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []  # it was removed just now, or is not a run of ours
        return [self.path / name for name in names if name.endswith(JOURNAL_SUFFIX)]


@dataclass(frozen=True)
class Store:
    """A folder of runs. Constructing it touches nothing."""

    path: Path

    @property
    def senders(self) -> Path:
        """The folder of the senders' output."""
        return self.path / "senders"

    @property
    def snapshots(self) -> Path:
        """The folder of code and environments that are kept once, whatever many runs had them."""
        return self.path / "snapshots"

    @property
    def datasets(self) -> Path:
        """The folder of the versions of datasets."""
        return self.path / "datasets"

    @property
    def cache(self) -> Path:
        """The folder of what makes reading fast, and is made again when it is gone."""
        return self.path / "cache"

    def create(self) -> None:
        """Make the folder, if need be, and make sure that runs can be written to it.

        Raises:
            StoreError: it cannot be made or written; the message says what to type.
        """
        try:
            self._make_runs_folder()
            probe = self.path / "runs" / f".probe-{os.urandom(4).hex()}"
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            raise StoreError.of(error, self.path, "the store cannot be written") from error

    def new_run(self, run_id: str, *, is_shared: bool = False) -> RunFolder:
        """Make the folder of a new run; of one that `is_shared`, another process may have made it."""
        folder = self.path / "runs" / run_id
        try:
            self._make_runs_folder()  # somebody may have deleted the store since it was made
            access.make_folder(folder, is_new=not is_shared)
        except OSError as error:
            raise StoreError.of(error, folder, "the run cannot be written") from error
        return RunFolder(folder)

    def _make_runs_folder(self) -> None:
        folder = self.path / "runs"
        if not folder.is_dir():
            access.make_store(self.path)
            access.make_folder(folder)

    def run(self, run_id: str) -> RunFolder:
        """The run of exactly this id, which may not exist."""
        return RunFolder(self.path / "runs" / run_id)

    def runs(self, begun: Callable[[RunFolder], str] | None = None) -> Iterator[RunFolder]:
        """Every run, oldest first. `begun` may know by heart what `begun_in` has to read."""
        folder = self.path / "runs"
        if not folder.is_dir():
            return
        names = os.listdir(folder)  # noqa: PTH208 - a list of names is what is wanted
        found = [RunFolder(folder / name) for name in names if not name.startswith(".")]
        yield from sorted(found, key=lambda one: ((begun or begun_in)(one), one.run_id))

    def find(self, run: str) -> RunFolder:
        """The one run whose id is or begins with `run`; "latest" is the one that started last.

        Raises:
            UsageError: there is none, or more than one.
        """
        if not run:
            raise UsageError(
                "the id of the run is empty; expected one, its beginning, or latest - type: mlobs runs"
            )
        is_name = "/" not in run and "\\" not in run and not run.startswith(".")
        if is_name and self.run(run).path.is_dir():
            return self.run(run)  # a whole id costs no listing of the store
        every = [folder.run_id for folder in self.runs()]
        found = every[-1:] if run == "latest" else [run_id for run_id in every if run_id.startswith(run)]
        if len(found) == 1:
            return self.run(found[0])
        if not found:
            close = get_close_matches(run, every[::-1], n=1, cutoff=_CLOSE)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UsageError(f"no run {run!r} in the store {self.path} - {hint}`mlobs runs` lists them")
        raise UsageError(
            f"{len(found)} runs begin with {run!r}, such as {found[0]} and {found[1]}; give more of the id"
        )


def has_own_id(folder: RunFolder) -> bool:
    """Tell whether mlobs gave the run its id, which begins with the moment of its start."""
    return _OWN_ID.fullmatch(folder.run_id) is not None


def _moment(at: float) -> str:
    whole = int(at)
    micros = int((at - whole) * 1_000_000)
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(whole))}-{micros:06d}"


def begun_in(folder: RunFolder) -> str:
    """When the run began, as a text that sorts: its id says so, or its journal if somebody chose the id."""
    if has_own_id(folder):
        return folder.run_id
    moments = []
    for path in folder.journals():
        with contextlib.suppress(OSError), Reader(path) as reader:
            header = reader.header()
            moments.append(header.at if header is not None else 0.0)
    return _moment(min(moments, default=0.0))
