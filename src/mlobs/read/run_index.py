"""Runs in short, kept in one file of the store, so that ten thousand are listed without opening a journal.

A line counts only for the very journals that it was made from. Runs that may still be written to, have
no recorded end, or are damaged have none: they are read anew each time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from mlobs.journal.format import encode
from mlobs.journal.store import RunFolder, Store, begun_in, has_own_id
from mlobs.read.at_rest import Key, journal_key, scan_with_key
from mlobs.read.cache_file import block_of, head_of, read_block, write_cache
from mlobs.read.record import liveness, record_of
from mlobs.read.run_summary import RunSummary

if TYPE_CHECKING:
    from typing_extensions import Self  # of the type checkers; typing has it from 3.11 on

KIND = "runs"
WORTH_BYTES = 1 << 18  # of journals; reading that much again takes some 10 ms, which nobody notices
_A_RUN_BYTES = 1 << 13  # what a run costs at least, whatever little it holds: opening its files


class Line(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A run in short, when it began (see `begun_in`), and the journals that this was read from."""

    key: Key
    begun: str
    summary: RunSummary


_decode = msgspec.msgpack.Decoder(dict[str, Line]).decode


@dataclass
class RunIndex:
    """The runs of a store in short. As a context manager it keeps at its end what was read anew.

    Args:
        store: the store, which may not exist.
        worth_bytes: the index is written once so much was read that it did not know.
    """

    store: Store
    worth_bytes: int = WORTH_BYTES

    def __post_init__(self) -> None:
        self._is_alive = liveness()
        self._lines = _load(self.store)
        self._read_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.save()

    def folders(self) -> list[RunFolder]:
        """Every run, oldest first."""
        return list(self.store.runs(self._begun))

    def summary(self, folder: RunFolder) -> RunSummary | None:
        """One run in short; None if it has recorded nothing yet."""
        key = journal_key(folder)
        line = self._lines.get(folder.run_id)
        if line is not None and line.key == key:
            return line.summary
        scans, at_rest = scan_with_key(folder, self._is_alive, {}, key)
        if not scans:
            return None
        record = record_of(folder, scans, self._is_alive)
        summary = RunSummary.of(record)
        if at_rest and record.end is not None:
            self._lines[folder.run_id] = Line(at_rest, begun_in(folder), summary)
            self._read_bytes += max(_A_RUN_BYTES, sum(size for _, size, _ in at_rest))
        return summary

    def summaries(self) -> Iterator[RunSummary]:
        """Every run in short, oldest first; one that has recorded nothing is left out."""
        return (found for folder in self.folders() if (found := self.summary(folder)) is not None)

    def save(self) -> None:
        """Write the index if enough was read anew; runs that are gone are left out.

        What another process wrote meanwhile may be lost, and is read again by whoever needs it.
        """
        if not self._read_bytes or self._read_bytes < self.worth_bytes:
            return
        there = {folder.run_id for folder in self.store.runs(lambda _: "")}
        kept = {run_id: line for run_id, line in self._lines.items() if run_id in there}
        block = block_of(encode(kept))
        write_cache(self.store.cache / KIND, KIND, lambda file: file.write(block) == len(block))
        self._read_bytes = 0
        _sweep(self.store, there)

    def _begun(self, folder: RunFolder) -> str:
        line = None if has_own_id(folder) else self._lines.get(folder.run_id)
        return line.begun if line is not None and line.key == journal_key(folder) else begun_in(folder)


def _load(store: Store) -> dict[str, Line]:
    try:
        content = (store.cache / KIND).read_bytes()
    except OSError:
        return {}  # not made yet, or not ours to read
    head = head_of(KIND)
    block = read_block(content, len(head)) if content.startswith(head) else None
    if block is None:
        return {}
    try:
        return _decode(block[0])
    except msgspec.DecodeError:
        return {}  # of another version that calls itself by this number


def _sweep(store: Store, there: set[str]) -> None:
    """Remove the points of runs that are gone, and what was left when such a file was written."""
    folder = store.cache / "points"
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 - names are compared
    for name in names:
        run_id = name.removeprefix(".").rpartition(".")[0] if name.startswith(".") else name
        if run_id not in there:
            with contextlib.suppress(OSError):  # another process sweeps too
                (folder / name).unlink()
