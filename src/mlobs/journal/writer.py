"""One process's record of one run: events go in, and are on the disk when `append` returns."""

from __future__ import annotations

import itertools
import os
import re
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias
from zlib import crc32

from mlobs.errors import StoreError
from mlobs.events import Event, Process
from mlobs.journal.blobs import blob_path, keep_bytes, keep_file, link_file, move_file
from mlobs.journal.files import JournalFile, open_file
from mlobs.journal.format import FORMAT, PREFIXES, Header, encode, frame
from mlobs.journal.process import is_data_worker, this_process

JOURNAL_SUFFIX = ".journal"


class _Own(NamedTuple):
    """What this process writes to: never shared with the process that it was forked from."""

    id: str
    path: Path
    file: JournalFile
    blobs: Iterator[int]


class Writer:
    """Append events of one run, from any thread of one process.

    - When `append` returns, the event survives `kill -9` of the process.
    - `append` may be re-entered (signal handlers, `__del__`, logging handlers); no record is torn.
    - Events of one thread keep their order.
    - A forked child gets a file of its own with its first event or payload; the parent's is not
      touched. A worker of PyTorch's DataLoader gets none: what it inherited records nothing.

    Args:
        folder: the run's folder, which exists.
        run_id: the run.
        is_opener: this process opened the run.
        rank: this process's rank among those that record the run.
        mapped: True maps the file, False writes to it, None decides by the file system.
        author: who the file is said to be by, if that is not this process: of a record taken from elsewhere
            no reader shall ask whether its writer lives.
    """

    def __init__(
        self,
        folder: Path,
        run_id: str,
        *,
        is_opener: bool = False,
        rank: int = 0,
        mapped: bool | None = None,
        author: Process | None = None,
    ) -> None:
        self.folder, self._run_id, self._rank, self._mapped = folder, run_id, rank, mapped
        self._author = author
        self.is_opener = is_opener
        self.is_closed = self._is_inherited = False
        self._slot: dict[str, _Own] = {}
        self._append = self._own().file.append
        _open_writers.add(self)

    @property
    def id(self) -> str:
        """This process's name in the run; no other process has it."""
        return self._own().id

    @property
    def path(self) -> Path:
        """This process's file."""
        return self._own().path

    def append(self, event: Event) -> None:
        """Keep the event.

        Raises:
            StoreError: there is no room for it, or the writer is closed; nothing was kept.
            TypeError, OverflowError: the event holds something that MessagePack cannot express.
        """
        body = encode(event)
        try:
            self._append(PREFIXES[len(body)] + crc32(body).to_bytes(4, "little") + body)
        except StoreError:
            raise  # it says all there is to say
        except OSError as error:
            raise StoreError.of(error, self.folder, "the event was not recorded") from error

    def keep_bytes(self, content: bytes | memoryview) -> int:
        """Keep a payload beside the journal, and return its ordinal for the event that names it.

        Raises:
            StoreError: there is no room for it.
        """
        own = self._own()
        ordinal = next(own.blobs)
        if own.id:
            keep_bytes(blob_path(self.folder, own.id, ordinal), content)
        return ordinal

    def keep_link(self, source: Path) -> tuple[int, int]:
        """Keep a file of the store that never changes, and return its ordinal and its size in bytes.

        Raises:
            StoreError: there is no room for it.
            OSError: the file cannot be read.
        """
        own = self._own()
        ordinal = next(own.blobs)
        return ordinal, link_file(blob_path(self.folder, own.id, ordinal), source) if own.id else 0

    def keep_file(
        self, source: Path, copied: Callable[[int], None] | None = None, *, is_ours: bool = False
    ) -> tuple[int, int]:
        """Keep a copy of a file as it is now, and return its ordinal and its size in bytes.

        `copied` is told of each portion how many bytes it had. `is_ours`: nobody else needs the file, so
        it is moved, if it lies on the disk of the run.

        Raises:
            StoreError: there is no room for it.
            OSError: the file cannot be read.
        """
        own = self._own()
        ordinal = next(own.blobs)
        path = blob_path(self.folder, own.id, ordinal)
        if not own.id:
            return ordinal, 0
        moved = move_file(path, source) if is_ours else None
        return ordinal, keep_file(path, source, copied) if moved is None else moved

    def end(self) -> int:
        """Offset behind the last event; every event so far lies before it."""
        return self._own().file.end()

    def close(self) -> None:
        """Cut the file to its size. Repeating it does nothing; appending afterwards raises."""
        if self.is_closed:
            return
        self.is_closed = True
        _open_writers.discard(self)
        self._append = _refuse_closed
        self._own().file.close()

    def _own(self) -> _Own:
        """This process's file, made when it is first needed; of several threads one makes it."""
        own = self._slot.get("own")
        if own is None:
            made = self._make()
            own = self._slot.setdefault("own", made)
            if own is not made and made.id:
                made.file.close()
                made.path.unlink()
        return own

    def _make(self) -> _Own:
        if self._is_inherited and is_data_worker():
            return _Own("", self.folder, _NoFile(), itertools.count())
        process = self._author or this_process()
        host = re.sub(r"[^A-Za-z0-9]+", "-", process.host).strip("-")[:32] or "host"
        writer = f"{host}-{process.pid}-{os.urandom(4).hex()}"
        path = self.folder / f"{writer}{JOURNAL_SUFFIX}"
        file = open_file(path, mapped=self._mapped)
        at, is_opener = time.time(), self.is_opener
        file.append(frame(encode(Header(FORMAT, self._run_id, writer, process, at, is_opener, self._rank))))
        return _Own(writer, path, file, itertools.count())

    def _leave_to_parent(self) -> None:
        """After a fork, in the child: the file stays the parent's; another is opened when needed."""
        own = self._slot.get("own")
        self._slot, self.is_opener, self._is_inherited = {}, False, True
        self._append = self._append_in_child
        if own is not None:
            own.file.abandon()

    def _append_in_child(self, record: bytes) -> None:
        self._append = self._own().file.append
        self._append(record)


class _NoFile:
    """The file of a process that records nothing, though it inherited a writer."""

    def append(self, record: bytes) -> None:
        """Forget the record."""

    def end(self) -> int:
        """Nothing was recorded."""
        return 0

    def close(self) -> None:
        """Nothing is open."""

    def abandon(self) -> None:
        """Nothing is open."""


class NullWriter:
    """A writer that keeps nothing and touches no disk: where a run is not to be recorded."""

    id = ""

    def append(self, event: Event) -> None:
        """Forget the event."""

    def keep_bytes(self, content: bytes | memoryview) -> int:
        """Forget the payload."""
        del content
        return 0

    def keep_link(self, source: Path) -> tuple[int, int]:
        """Look at nothing."""
        del source
        return 0, 0

    def keep_file(
        self, source: Path, copied: Callable[[int], None] | None = None, *, is_ours: bool = False
    ) -> tuple[int, int]:
        """Look at nothing, copy nothing."""
        del source, copied, is_ours
        return 0, 0

    def end(self) -> int:
        """Nothing was recorded."""
        return 0

    def close(self) -> None:
        """Nothing is open."""


AnyWriter: TypeAlias = Writer | NullWriter


def _refuse_closed(record: bytes) -> None:
    raise OSError(0, f"the journal is closed; a record of {len(record)} bytes was not kept")


_open_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for writer in list(_open_writers):
        writer._leave_to_parent()  # noqa: SLF001 - the module's own hook


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
