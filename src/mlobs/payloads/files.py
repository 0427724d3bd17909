"""Files and folders, as they are at the moment of the call."""

from __future__ import annotations

import contextlib
import functools
import glob
import itertools
import os
import posixpath
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from mlobs.errors import UsageError
from mlobs.events import Artifact, Meta, Role
from mlobs.journal.blobs import INLINE_BYTES
from mlobs.journal.writer import AnyWriter
from mlobs.payloads.payload import Payload, clean_path, keep, media_type_of
from mlobs.progress import is_terminal, progress


def artifact_of_file(
    writer: AnyWriter,
    source: Path,
    path: str,
    step: int | None,
    meta: Meta | None,
    *,
    role: Role = "file",
    copied: Callable[[int], None] | None = None,
    is_ours: bool = False,
) -> Artifact:
    """Keep a file as it is now; it may change or vanish afterwards.

    `copied` is told of each portion of a large file how many bytes it had. `is_ours`: it may be moved.
    """
    existing(source, "log_artifact")
    media_type = media_type_of(path, "application/octet-stream")
    if source.stat().st_size <= INLINE_BYTES:
        return keep(writer, Payload(path, role, media_type, source.read_bytes()), step, meta)
    blob, size_bytes = writer.keep_file(source, copied, is_ours=is_ours)
    return Artifact(time.time(), path, size_bytes, role, media_type, blob, None, step, meta)


@contextlib.contextmanager
def copying(found: Sequence[tuple[Path, str]]) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how far the copies of these files are; give it the bytes of each portion."""
    done = 0
    total = sum(_size_bytes(path) for path, _ in found) if is_terminal() else 0
    with progress("mlobs: keeping files", total) as show:

        def copied(portion_bytes: int) -> None:
            nonlocal done
            done += portion_bytes
            show(done)

        yield copied


def files_of(
    source: Path, artifact_path: str | None, left_out: Path | None = None
) -> Iterator[tuple[Path, str]]:
    """Yield each file below a folder, sorted, with its path as an artifact; of a file, itself.

    The folder `left_out` counts as empty; it is spelled as a path below `source`. What is no file (a
    broken link, a pipe) comes too: keeping it will say why it cannot be kept.
    """
    if not source.is_dir():
        yield source, clean_path(artifact_path or source.name)
    for path in sorted(_below(source, left_out)):
        yield path, clean_path(posixpath.join(artifact_path or "", path.relative_to(source).as_posix()))


def is_pattern(local_path: object) -> bool:
    """Tell whether a path is a pattern: it has wildcards, and nothing is called so."""
    return (
        isinstance(local_path, str | PurePath)
        and glob.has_magic(str(local_path))
        and not os.path.lexists(local_path)
    )


def matches(pattern: str, artifact_path: str | None) -> Iterator[tuple[Path, str]]:
    """Yield the files that match, sorted, with their paths as artifacts; `**` is any folders.

    Raises:
        UsageError: none does.
    """
    parts = Path(pattern).parts
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    root = Path(*fixed)
    files = [path for path in sorted(root.glob(str(Path(*parts[len(fixed) :])))) if not path.is_dir()]
    if not files:
        raise UsageError(f"log_artifacts: no file matches {pattern!r} (looked from {Path.cwd()})")
    for path in files:
        yield path, clean_path(posixpath.join(artifact_path or "", path.relative_to(root).as_posix()))


def outside(found: Iterable[tuple[Path, str]], store: Path) -> Iterator[tuple[Path, str]]:
    """Yield of these files those that do not lie in the store."""
    place = store.resolve()
    is_inside = functools.cache(lambda folder: folder.resolve().is_relative_to(place))
    return ((path, name) for path, name in found if not is_inside(path.parent))


def store_below(source: Path, store: Path) -> Path | None:
    """The store as a path below a folder that holds it, None if it is elsewhere."""
    try:
        return source / store.resolve().relative_to(source.resolve())
    except ValueError:
        return None


def existing(local_path: object, call: str) -> Path:
    """The path, if there is something.

    Raises:
        UsageError: it is no path, or there is nothing.
    """
    if not isinstance(local_path, str | PurePath):
        raise UsageError(f"{call} got {type(local_path).__name__}; expected a path")
    path = Path(local_path)
    if not path.exists():
        raise UsageError(f"{call}: there is no {path} (looked from {Path.cwd()})")
    if not path.is_file() and not path.is_dir():
        raise UsageError(f"{call}: {path} is neither a file nor a folder")  # reading a pipe might never end
    return path


def _size_bytes(path: Path) -> int:
    """The size of a file, 0 if it is none any more: keeping it will say so."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _below(folder: Path, left_out: Path | None) -> Iterator[Path]:
    """Walk through a folder; links to folders are not followed."""
    for place, folders, names in os.walk(folder):
        here = Path(place)
        if here == left_out:
            folders.clear()
            continue
        yield from (here / name for name in names)
