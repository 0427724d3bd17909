"""A payload before it is recorded: where it belongs in the run, what it is, and its content."""

from __future__ import annotations

import mimetypes
import posixpath
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from mlobs.errors import UsageError
from mlobs.events import Artifact, Meta, Role
from mlobs.journal.blobs import INLINE_BYTES
from mlobs.journal.writer import AnyWriter
from mlobs.values import unicode_of


@dataclass(frozen=True)
class Payload:
    """One artifact to be. `raw` says how content that is not in its final form has to be read.

    `facts` are added to the caller's `meta`.
    """

    path: str
    role: Role
    media_type: str
    content: bytes | memoryview
    raw: Mapping[str, Any] | None = None
    facts: Mapping[str, Any] | None = None


def keep(writer: AnyWriter, payload: Payload, step: int | None, meta: Meta | None) -> Artifact:
    """Make the content durable, and return the event that names it.

    Raises:
        StoreError: there is no room for it.
    """
    size_bytes = len(payload.content)  # of a memoryview: its items are bytes
    is_small = size_bytes <= INLINE_BYTES
    return Artifact(
        at=time.time(),
        path=payload.path,
        size_bytes=size_bytes,
        role=payload.role,
        media_type=payload.media_type,
        blob=None if is_small else writer.keep_bytes(payload.content),
        data=bytes(payload.content) if is_small else None,
        step=step,
        meta={**(meta or {}), **payload.facts} if payload.facts else meta,
        raw=None if payload.raw is None else dict(payload.raw),
    )


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


def named(name: str, suffix: str) -> str:
    """The clean path of what is called `name` and is of the type of `suffix`: it is added unless there."""
    path = clean_path(name)
    return path if path.lower().endswith(suffix) else path + suffix


def named_text(name: str, suffix: str) -> str:
    """The clean path of a text: any suffix that it has says what type of text it is; `.5` is a number."""
    path = clean_path(name)
    return path if PurePath(path).suffix[1:2].isalpha() else path + suffix


def media_type_of(path: str, otherwise: str) -> str:
    """The media type that a path's suffix says."""
    return mimetypes.guess_type(path)[0] or otherwise
