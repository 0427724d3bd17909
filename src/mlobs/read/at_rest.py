"""Is a run at rest? Then nothing more is written to its journals, and what they say may be kept.

A writer's file is mapped and longer than what it holds, until the writer closes it. So its size tells nothing
while it is open: a run that may be written to is always read anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeAlias

from mlobs.journal.store import RunFolder
from mlobs.journal.writer import JOURNAL_SUFFIX
from mlobs.read.record import Alive, scan_writers
from mlobs.read.scan import Scan

Key: TypeAlias = tuple[tuple[str, int, int], ...]  # name, size in bytes, time of change in ns of each journal


def journal_key(folder: RunFolder) -> Key:
    """What tells one state of a run's journals from another; () if it has none."""
    try:
        names = [name for name in os.listdir(folder.path) if name.endswith(JOURNAL_SUFFIX)]  # noqa: PTH208 - 10,000 times
        found = [(name, os.stat(f"{folder.path}/{name}")) for name in sorted(names)]  # noqa: PTH116 - the same
    except OSError:
        return ()  # it was deleted just now
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)


def is_at_rest(one: Scan, key: Key) -> bool:
    """Tell whether the only file of a run, as it was read after its key was taken, is all there will be."""
    return _may_rest([one], key) and one.end == key[0][1]


def scan_with_key(
    folder: RunFolder, is_alive: Alive, names: dict[str, int], key: Key | None = None
) -> tuple[list[Scan], Key]:
    """Read a run's journals. The key is () unless the run has ended and is at rest.

    `key` is that of a moment before, if it is known.
    """
    key = journal_key(folder) if key is None else key
    scans = scan_writers(folder, is_alive, names)
    if not _may_rest(scans, key):
        return scans, ()
    sizes = {name: size for name, size, _ in key}
    is_open = [one for one in scans if one.end != sizes.get(one.path.name)]
    if any(one.process is None or is_alive(one.process) is not False for one in is_open):
        return scans, ()
    if is_open:  # they are dead: what they wrote between the first reading and their death is there now
        scans = scan_writers(folder, is_alive, names)
        return scans, key if _may_rest(scans, key) else ()
    return scans, key


def _may_rest(scans: Sequence[Scan], key: Key) -> bool:
    """Every file was read, to its end and without a flaw, and somebody has recorded an end."""
    is_whole = len(scans) == len(key) and not any(one.flaws or one.tail_bytes for one in scans)
    return is_whole and any(one.ends for one in scans)
