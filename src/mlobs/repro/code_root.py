"""What is known of captured code: plain data, one `CodeRoot` per repository or folder."""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """How much one root may hold; what is beyond is left out and listed, never an error.

    `file_bytes` bounds each new or changed file, `total_bytes` all of them together (and a whole pack),
    `files` the untracked ones, `seconds` the walk through a folder that is no repository.
    """

    file_bytes: int = 10 << 20
    total_bytes: int = 100 << 20
    files: int = 20_000
    seconds: float = 10.0


KEPT = "was kept"  # how the reason ends where the tree has a file in the form that was committed


class Excluded(msgspec.Struct, frozen=True):
    """A file or folder that was there and is not in the pack, and why.

    `digest` is "blake3:" and the hex digest of the content, or "sha256:" and that of a Git LFS file; None
    for what may hold a secret (a digest lets a short one be guessed) and for folders.
    """

    path: str
    size_bytes: int
    digest: str | None
    reason: str


class CodeRoot(msgspec.Struct, frozen=True):
    """One repository, submodule or plain folder, as it was on the disk.

    `path` is where it was, `place` where it goes below the restored folder ("" for the main root).
    `tree` is git's id (SHA-1) of the bytes on the disk, no line end converted and no filter applied; it is
    of what was stored, so without `excluded`. `kind` says what the pack is: "git" a git pack, thin against
    `base` unless that is None; "plain" a gzipped tar file. With `pack_bytes` 0 there is no pack: all is in
    `base`. `patch` is for people: the difference from `commit`, without secrets. `is_cut` says that it had
    more files than were looked at: one that is in neither the tree nor `excluded` may have been there.
    """

    path: str
    place: str
    tree: str
    kind: str
    commit: str | None = None
    branch: str | None = None
    base: str | None = None
    remotes: dict[str, str] = {}
    is_dirty: bool = False
    pack_bytes: int = 0
    excluded: tuple[Excluded, ...] = ()
    warnings: tuple[str, ...] = ()
    patch: str | None = None
    is_cut: bool = False


def root_around(roots: Iterable[CodeRoot], path: str) -> CodeRoot | None:
    """The innermost root that a path of then was in; None if it was in none."""
    around = [one for one in roots if path == one.path or path.startswith(one.path.rstrip(os.sep) + os.sep)]
    return max(around, key=lambda one: len(one.path), default=None)


def place_of(roots: Iterable[CodeRoot], path: str) -> str | None:
    """Where a path of then goes below the restored folder, "." for that itself; None if it was in no root."""
    root = root_around(roots, path)
    if root is None:
        return None
    below = os.path.relpath(path, root.path)
    return os.path.normpath(os.path.join(root.place, below)).replace(os.sep, "/")  # noqa: PTH118 - texts


class Missing(msgspec.Struct, frozen=True):
    """A root that could not be captured, and why."""

    path: str
    reason: str


def shown(name: bytes | str) -> str:
    """A file's name as text that every encoder takes; bytes that are no UTF-8 are spelled out."""
    if isinstance(name, str):
        name = name.encode("utf-8", "surrogateescape")
    return name.decode("utf-8", "backslashreplace")
