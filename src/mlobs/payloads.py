"""Texts, dicts and files as artifacts: the content is durable before the event names it."""

from __future__ import annotations

import mimetypes
import os
import posixpath
import time
from collections.abc import Iterator
from pathlib import Path, PurePath

from mlobs.errors import UsageError
from mlobs.events import Artifact, Meta
from mlobs.journal.blobs import INLINE_BYTES
from mlobs.journal.writer import AnyWriter
from mlobs.text import json_bytes
from mlobs.values import plain, unicode_of


def artifact_of_text(
    writer: AnyWriter, name: str, text: str, step: int | None, meta: Meta | None
) -> Artifact:
    """Keep a text under `name`, which gets the suffix `.txt` if it has none."""
    if not isinstance(text, str):
        raise UsageError(
            f"log_text({name!r}) got {type(text).__name__}; expected str - log_dict takes mappings"
        )
    content = text.encode("utf-8", "backslashreplace")
    path = _with_suffix(name, ".txt")
    return Artifact(
        time.time(),
        path,
        len(content),
        "text",
        _media_type(path, "text/plain"),
        *_kept(writer, content),
        step,
        meta,
    )


def artifact_of_dict(
    writer: AnyWriter, name: str, value: object, step: int | None, meta: Meta | None
) -> Artifact:
    """Keep a mapping or list as JSON under `name`, which gets the suffix `.json` if it has none."""
    content = json_bytes(plain(value))
    path = _with_suffix(name, ".json")
    return Artifact(
        time.time(), path, len(content), "text", "application/json", *_kept(writer, content), step, meta
    )


def artifact_of_file(
    writer: AnyWriter, source: Path, path: str, step: int | None, meta: Meta | None
) -> Artifact:
    """Keep a file as it is now; it may change or vanish afterwards."""
    existing(source, "log_artifact")
    media_type = _media_type(path, "application/octet-stream")
    if source.stat().st_size <= INLINE_BYTES:
        content = source.read_bytes()
        return Artifact(
            time.time(), path, len(content), "file", media_type, *_kept(writer, content), step, meta
        )
    blob, size_bytes = writer.keep_file(source)
    return Artifact(time.time(), path, size_bytes, "file", media_type, blob, None, step, meta)


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


def clean_path(path: str) -> str:
    """The artifact's path in its one form: relative, with forward slashes, inside the run.

    Raises:
        UsageError: it is empty, absolute, or leads outside.
    """
    if not isinstance(path, str) or not path:
        raise UsageError(f"artifact path is {path!r}; expected a relative path such as 'plots/roc.png'")
    clean = posixpath.normpath(unicode_of(path).replace("\\", "/"))
    if clean.startswith(("/", "../")) or clean in (".", ".."):
        raise UsageError(f"artifact path {path!r} leads outside of the run; expected a relative path")
    return clean


def _below(folder: Path, left_out: Path | None) -> Iterator[Path]:
    """Walk through a folder; links to folders are not followed."""
    for place, folders, names in os.walk(folder):
        here = Path(place)
        if here == left_out:
            folders.clear()
            continue
        yield from (here / name for name in names)


def _kept(writer: AnyWriter, content: bytes) -> tuple[int | None, bytes | None]:
    """The blob's ordinal or the content itself, whichever the event is to hold."""
    return (None, content) if len(content) <= INLINE_BYTES else (writer.keep_bytes(content), None)


def _media_type(path: str, otherwise: str) -> str:
    return mimetypes.guess_type(path)[0] or otherwise


def _with_suffix(name: str, suffix: str) -> str:
    path = clean_path(name)
    return path if PurePath(path).suffix else path + suffix
