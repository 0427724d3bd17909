"""The user's files in a repetition's folder: copies, as a program may write to what it reads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

COPY_BYTES = 1 << 30  # of one file or folder; of more the repetition gets a link
_COPY_FILES = 10_000


def lend(places: Mapping[Path, Path], max_bytes: int = COPY_BYTES) -> Iterator[str]:
    """Put copies of files and folders into their places, and say of which a link was put there instead.

    Of what has more than `max_bytes` it is a link; of everything if they are 0.

    Raises:
        OSError: a place cannot be written, or a file not be read.
    """
    for place, source in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        if _is_at_most(source, max_bytes):
            if source.is_dir():
                shutil.copytree(source, place, symlinks=True)
            else:
                shutil.copy2(source, place)
        else:
            place.symlink_to(source)
            yield f"{source} was linked, not copied: what the program writes there is written there"


def links_outside(folder: Path) -> Iterator[str]:
    """Say which links in the restored code lead out of it: what is written there reaches the user's files."""
    top = folder.resolve()
    for name, folders, files in os.walk(folder):
        for path in (Path(name, one) for one in (*folders, *files)):
            if path.is_symlink() and path.exists() and not path.resolve().is_relative_to(top):
                link = path.relative_to(folder)
                yield f"{link} is a link to {path.resolve()}: what the program writes there is written there"


def _is_at_most(source: Path, max_bytes: int) -> bool:
    if not max_bytes:
        return False
    if not source.is_dir():
        return source.stat().st_size <= max_bytes
    total = count = 0
    for name, _, files in os.walk(source):
        for one in files:
            count += 1
            total += os.lstat(os.path.join(name, one)).st_size  # noqa: PTH118 - thousands
            if total > max_bytes or count > _COPY_FILES:
                return False
    return True
