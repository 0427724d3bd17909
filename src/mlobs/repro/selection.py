"""Which files of a tree are taken: by name, kind, size; the others are listed with the reason."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlobs.repro.code_root import Excluded, Limits, shown
from mlobs.repro.code_secrets import has_secret_name
from mlobs.secrets import masked

SECRET_NAME = "its name says that it holds secrets"  # noqa: S105 - a reason
SECRET_INSIDE = "there is a secret in it"  # noqa: S105 - a reason
_OUTPUTS = frozenset({b".mlobs", b"mlruns", b"mlartifacts", b"wandb", b"lightning_logs", b".neptune"})
_MADE = frozenset(
    {
        b"__pycache__",
        b"node_modules",
        b".ipynb_checkpoints",
        b".venv",
        b"venv",
        b".git",
        b".tox",
        b".mypy_cache",
        b".ruff_cache",
        b".pytest_cache",
    }
)
_EVENTS = b"events.out.tfevents."  # how the names of TensorBoard's files begin, wherever they lie
_CODE = (b".py", b".pyi", b".pyx", b".so", b".pyd", b".sh")
_DIGEST_BYTES = 1 << 30  # 0.2 s of hashing; of larger files the size alone is kept
_CHUNK_BYTES = 1 << 20
_MOST_LISTED = 50  # warnings of one kind


@dataclass(frozen=True)
class Outputs:
    """Folders and files that programs write.

    `stores` hold no code. `backends` hold what trackers wrote; as somebody may have chosen a folder of his
    own for it, files of code in there are code all the same.
    """

    stores: frozenset[Path] = frozenset()
    backends: frozenset[Path] = frozenset()


@dataclass
class Selection:
    """What is taken of a folder, and what is not.

    `taken` has for each file its state before it was read, or None if it was there no more.
    """

    top: Path
    limits: Limits
    outputs: Outputs = field(default_factory=Outputs)
    taken: dict[bytes, os.stat_result | None] = field(default_factory=dict)
    excluded: dict[bytes, Excluded] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    is_cut: bool = False

    def consider(self, names: Iterable[bytes]) -> None:
        """Decide on files, the smallest first: it is the large ones that do not fit."""
        found = [(name, _state(self._path(name))) for name in names]
        room = self.limits.total_bytes - sum(one.st_size for one in self.taken.values() if one)
        for name, state in sorted(found, key=lambda one: (one[1].st_size if one[1] else 0, one[0])):
            reason = self._reason(name, state, room)
            if reason is None:
                self.taken[name] = state
                room -= state.st_size if state else 0
            else:
                self.leave_out(name, reason)

    def leave_out(self, name: bytes, reason: str) -> None:
        """Exclude a file. Of one that may hold a secret no digest is kept: it lets a short one be guessed."""
        self.taken.pop(name, None)
        path = self._path(name)
        state = _state(path)
        size = state.st_size if state else 0
        is_open = reason not in (SECRET_NAME, SECRET_INSIDE) and state and stat.S_ISREG(state.st_mode)
        digest = content_digest(path) if is_open and size <= _DIGEST_BYTES else None
        self.excluded[name] = Excluded(masked(shown(name)), size, digest, reason)

    def leave_out_folders(self, names: Iterable[bytes]) -> list[bytes]:
        """Return the files that lie in no folder of outputs or made files; of the others list the folder.

        They are at most as many as may be new, code before all else.
        """
        kept, folders = [], Counter[tuple[bytes, str]]()
        for name in names:
            found = self._made_folder(name)
            if found is None:
                kept.append(name)
            else:
                folders[found] += 1
        for (folder, reason), count in folders.items():
            self.excluded[folder] = Excluded(
                masked(shown(folder)) + "/", 0, None, f"{reason} ({count} files)"
            )
        if len(kept) > self.limits.files:
            self.warn(
                f"{len(kept) - self.limits.files} of {len(kept)} new files were left out: they are too many"
            )
        self.is_cut = sum(map(is_code, kept)) > self.limits.files
        return sorted(kept, key=lambda name: (not is_code(name), name))[: self.limits.files]

    def changed_while_read(self) -> list[bytes]:
        """The taken files that are not now as they were before they were read."""
        return [
            name for name, before in self.taken.items() if _facts(before) != _facts(_state(self._path(name)))
        ]

    def warn(self, text: str) -> None:
        """Say something about the whole."""
        self.warnings.append(masked(text))

    def warn_of(self, what: str, names: Iterable[bytes]) -> None:
        """Say something about files, of at most 50 by name."""
        ordered = sorted(names)
        self.warnings += [masked(f"{what}: {shown(name)}") for name in ordered[:_MOST_LISTED]]
        if len(ordered) > _MOST_LISTED:
            self.warnings.append(f"{what}: {len(ordered) - _MOST_LISTED} more")

    def _reason(self, name: bytes, state: os.stat_result | None, room: int) -> str | None:
        """Why a file is not taken; None if it is."""
        if has_secret_name(name):
            return SECRET_NAME
        if self._is_output(name) or name.rpartition(b"/")[2].startswith(_EVENTS):
            return "a tracker writes it"
        if (
            state is None or stat.S_ISLNK(state.st_mode) or stat.S_ISDIR(state.st_mode)
        ):  # a folder: a submodule
            return None
        if not stat.S_ISREG(state.st_mode):
            return "it is neither a file nor a link"
        if state.st_size > self.limits.file_bytes:
            return f"it is larger than {self.limits.file_bytes} bytes"
        if state.st_size > room:
            return f"all new and changed files together are larger than {self.limits.total_bytes} bytes"
        return None if os.access(self._path(name), os.R_OK) else "it could not be read"

    def is_made(self, folder: Path) -> bool:
        """Tell whether a folder is never code: outputs of trackers, caches, environments."""
        name = os.fsencode(folder.name)
        return is_made_name(name) or folder in self.outputs.stores or (folder / "pyvenv.cfg").exists()

    def is_for_backends(self, folder: Path) -> bool:
        """Tell whether a backend writes to a folder or one around it: only files of code are taken there."""
        if not self.outputs.backends:
            return False
        around = [one for one in (folder, *folder.parents) if self.top in one.parents]
        return not self.outputs.backends.isdisjoint(around)

    def _made_folder(self, name: bytes) -> tuple[bytes, str] | None:
        parts = name.split(b"/")[:-1]
        for depth, part in enumerate(parts, 1):
            folder = b"/".join(parts[:depth])
            if part in _OUTPUTS or (self._is_output(folder) and not self._is_code_beside(folder, name)):
                return folder, "what a tracker wrote"
            if part in _MADE:
                return folder, "made by a program, not written"
        return None

    def _is_output(self, name: bytes) -> bool:
        path = self._path(name)
        return path in self.outputs.stores or path in self.outputs.backends

    def _is_code_beside(self, folder: bytes, name: bytes) -> bool:
        """Tell whether a file in a folder of outputs is code that lies beside what a backend writes."""
        return is_code(name) and self._path(folder) not in self.outputs.stores

    def _path(self, name: bytes) -> Path:
        return self.top / os.fsdecode(name)


def is_made_name(name: bytes) -> bool:
    """Tell whether folders of this name are never code: outputs of trackers, caches, environments."""
    return name in _OUTPUTS or name in _MADE


def is_code(name: bytes) -> bool:
    """Tell whether a file's name says that Python, or a shell, runs it."""
    return name.endswith(_CODE)


def content_digest(path: Path) -> str | None:
    """The BLAKE3 digest of a file; None if it cannot be read.

    It is not mapped: a file that is cut while it is read would be a SIGBUS.
    """
    from blake3 import blake3

    try:
        return f"blake3:{_digested(path, blake3())}"
    except OSError:  # it was there a moment ago, or belongs to another user: the size is known
        return None


def sha256_of(path: Path) -> str:
    """The SHA-256 digest of a file, in hex.

    Raises:
        OSError: it cannot be read.
    """
    return _digested(path, hashlib.sha256())


def _digested(path: Path, digest: Any) -> str:
    with path.open("rb") as reading:
        while chunk := reading.read(_CHUNK_BYTES):
            digest.update(chunk)
    return str(digest.hexdigest())


def _state(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:  # gone since it was listed
        return None


def _facts(state: os.stat_result | None) -> tuple[int, ...] | None:
    return (state.st_size, state.st_mtime_ns, state.st_ino) if state else None
