"""A folder without git: its files, the id that git would give their tree, and a pack that needs no git."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from mlobs.repro.code_root import CodeRoot, Limits, shown
from mlobs.repro.code_secrets import holds_secret
from mlobs.repro.git_objects import EXECUTABLE, FILE, LINK, blob_id, tree_id
from mlobs.repro.git_tree import CapturedRoot
from mlobs.repro.selection import SECRET_INSIDE, Outputs, Selection, is_code

Files: TypeAlias = dict[bytes, tuple[str, bytes]]  # git's mode and the content, by name


def capture_folder(
    folder: Path,
    *,
    place: str,
    pack: Path,
    limits: Limits,
    started_at: float | None,
    outputs: Outputs | None = None,
    only: Iterable[Path] = (),
    warnings: Iterable[str] = (),
) -> CapturedRoot:
    """Capture a folder that is no repository, or `only` some files in it.

    Raises:
        OSError: the pack cannot be written.
    """
    selection = Selection(folder, limits, outputs or Outputs())
    selection.warnings += warnings
    names = [os.fsencode(path.relative_to(folder).as_posix()) for path in only] or _walked(folder, selection)
    selection.consider(names)
    files = _read(selection)
    selection.warn_of("changed while it was read", selection.changed_while_read())
    if started_at is not None:
        late = [name for name, state in selection.taken.items() if state and state.st_mtime > started_at]
        selection.warn_of("changed after the start", late)
    root = CodeRoot(
        path=shown(str(folder)),
        place=place,
        tree=tree_id({name: (mode, blob_id(content)) for name, (mode, content) in files.items()}),
        kind="plain",
        is_dirty=True,
        pack_bytes=_write_pack(files, pack),
        excluded=tuple(selection.excluded[name] for name in sorted(selection.excluded)),
        warnings=tuple(selection.warnings),
        is_cut=selection.is_cut,
    )
    return CapturedRoot(root, pack)


def files_in(pack: bytes) -> Files:
    """The files in a pack of a plain folder.

    Raises:
        ValueError: it is no such pack, or damaged.
    """
    files: Files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(pack), mode="r:gz", errors="surrogateescape") as archive:
            for member in archive:
                name = os.fsencode(member.name)
                if member.issym():
                    files[name] = (LINK, os.fsencode(member.linkname))
                elif (content := archive.extractfile(member)) is not None:
                    files[name] = (EXECUTABLE if member.mode & stat.S_IXUSR else FILE, content.read())
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"the pack is damaged: {error}") from error
    return files


def read_file(path: Path, state: os.stat_result) -> tuple[str, bytes]:
    """Git's mode and the content of a file or link.

    Raises:
        OSError: it cannot be read.
    """
    if stat.S_ISLNK(state.st_mode):
        return LINK, os.fsencode(path.readlink())
    return EXECUTABLE if state.st_mode & stat.S_IXUSR else FILE, path.read_bytes()


def _walked(top: Path, selection: Selection) -> list[bytes]:
    """The files below a folder; what is never code, and repositories inside, are listed instead."""
    code: list[str] = []
    others: list[str] = []
    nested, made = [], []
    most, deadline = selection.limits.files, time.monotonic() + selection.limits.seconds
    for name, folders, files in os.walk(top):
        folder = Path(name)
        if folder != top and ".git" in (*folders, *files):
            nested.append(_below(folder, top))
            folders.clear()
            continue
        skipped = {one for one in folders if selection.is_made(folder / one)}
        made += [_below(folder / one, top) for one in skipped - {"__pycache__", ".git"}]
        folders[:] = sorted(set(folders) - skipped)
        links = [one for one in folders if (folder / one).is_symlink()]
        found = [*files, *links]
        if selection.is_for_backends(folder):
            found = [one for one in found if is_code(os.fsencode(one))]
            made += [_below(folder, top)] if folder in selection.outputs.backends else []
        code += [_below(folder / one, top) for one in found if is_code(os.fsencode(one))]
        others += [_below(folder / one, top) for one in found if not is_code(os.fsencode(one))][
            : most - len(others)
        ]
        if len(code) > most or time.monotonic() > deadline:
            selection.is_cut = True
            break
    if selection.is_cut or len(code) + len(others) > most:
        selection.warn(
            f"the folder is larger than was looked through: {len(code) + len(others)} files were found"
        )
    selection.warn_of(
        "a repository inside, of which only what is imported is captured", map(os.fsencode, nested)
    )
    selection.warn_of("a folder of outputs, caches or libraries was not captured", map(os.fsencode, made))
    return [os.fsencode(one) for one in (*sorted(code), *sorted(others))[:most]]


def _below(path: Path, top: Path) -> str:
    return path.relative_to(top).as_posix()


def _read(selection: Selection) -> Files:
    """The contents of what is taken; what has a secret in it is not."""
    files: Files = {}
    for name, state in list(selection.taken.items()):
        if state is None:
            selection.taken.pop(name)
            continue
        try:
            mode, content = read_file(selection.top / os.fsdecode(name), state)
        except OSError as error:
            selection.leave_out(name, f"it could not be read: {error.strerror}")
            continue
        if holds_secret(content, name):
            selection.leave_out(name, SECRET_INSIDE)
        else:
            files[name] = (mode, content)
    return files


def _write_pack(files: Files, path: Path) -> int:
    """Write a gzipped tar file that is the same for the same files, and return its size in bytes."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed,
        tarfile.open(
            fileobj=packed, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape"
        ) as archive,
    ):
        for name, (mode, content) in sorted(files.items()):
            member = tarfile.TarInfo(os.fsdecode(name))
            member.mode = 0o755 if mode == EXECUTABLE else 0o644
            if mode == LINK:
                member.type, member.linkname = tarfile.SYMTYPE, os.fsdecode(content)
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path.stat().st_size
