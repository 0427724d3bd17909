"""Code that ran and that a snapshot has not: beside its roots, ignored by git, or left out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mlobs.repro.code_root import KEPT, CodeRoot, place_of, root_around, shown
from mlobs.repro.code_secrets import has_secret_name, holds_secret
from mlobs.repro.git import user_git
from mlobs.repro.git_repository import find_repository
from mlobs.repro.places import is_too_wide
from mlobs.repro.selection import SECRET_INSIDE, SECRET_NAME, content_digest, is_made_name

UNCAPTURED = "uncaptured"  # the part of the snapshot that names such files


class UncapturedFile(msgspec.Struct, frozen=True):
    """A module's file that is in no captured tree, and why.

    `path` is where it was, `place` where it would go below the restored folder. `digest` is "blake3:" and the
    hex digest of its content; None for what may hold a secret, as a digest lets a short one be guessed.
    """

    path: str
    place: str
    reason: str
    digest: str | None


def uncaptured_files(facts: Mapping[str, Any]) -> tuple[UncapturedFile, ...]:
    """Return the files that a part of the snapshot names."""
    return msgspec.convert(facts.get("files", ()), tuple[UncapturedFile, ...])


def module_files(facts: Mapping[str, Any]) -> list[Path]:
    """Return the files of the program's own modules, from the facts of what was loaded."""
    return [Path(folder, name) for folder, names in facts.get("own", {}).items() for name in names]


def folders_outside(roots: Sequence[CodeRoot], modules: Iterable[Path], script: Path | None) -> list[Path]:
    """Return from which folders, or as which files, modules were loaded that no root is around.

    A repository inside a root is none of it, and of a folder that is nobody's project the root has the
    `script` alone.
    """
    own = script.resolve() if script is not None else None
    outside = (path for path in _resolved(modules) if path != own and _owner(roots, path) is None)
    return sorted({_to_capture(path) for path in outside})


def find_uncaptured(roots: Sequence[CodeRoot], modules: Iterable[Path]) -> list[UncapturedFile]:
    """Return which files of loaded modules are in no root's tree though a root is around them.

    Raises:
        GitFailed: git does not answer.
    """
    owners = {
        path: root for path in _resolved(modules) if (root := root_around(roots, str(path))) is not None
    }
    reasons = {
        path: reason
        for path, root in owners.items()
        if (reason := _why_left_out(roots, root, path)) is not None
    }
    for root in {root.path: root for root in owners.values() if root.kind == "git"}.values():
        files = [path for path, owner in owners.items() if owner.path == root.path and path not in reasons]
        reasons |= dict.fromkeys(_ignored(Path(root.path), files), "git ignores it")
    return [_uncaptured(roots, path, reasons[path]) for path in sorted(reasons)]


def _why_left_out(roots: Sequence[CodeRoot], root: CodeRoot, path: Path) -> str | None:
    below = path.relative_to(root.path)
    names = [below.as_posix()]
    for folder in below.parents[:-1]:
        names += [f"{folder.as_posix()}/", folder.as_posix()]  # the latter is an archive
    excluded = {one.path: one.reason for other in roots if other.path == root.path for one in other.excluded}
    reason = next((excluded[name] for name in map(shown, names) if name in excluded), None)
    if reason is not None:
        return None if reason.endswith(KEPT) else reason
    if root.kind == "plain" and any(is_made_name(os.fsencode(folder)) for folder in below.parent.parts):
        return "it lies in a folder of outputs, caches or libraries"
    return "there were more files than are looked at" if root.is_cut else None


def _uncaptured(roots: Sequence[CodeRoot], path: Path, reason: str) -> UncapturedFile:
    place = place_of(roots, str(path)) or path.name
    is_secret = reason in (SECRET_NAME, SECRET_INSIDE)
    digest = None if is_secret else _digest(path, os.fsencode(place))
    return UncapturedFile(shown(str(path)), shown(place), reason, digest)


def _digest(path: Path, name: bytes) -> str | None:
    try:
        is_secret = has_secret_name(name) or holds_secret(path.read_bytes(), name)
    except OSError:  # it is gone, or cannot be read: nobody can tell what ran
        return None
    return None if is_secret else content_digest(path)


def _resolved(modules: Iterable[Path]) -> list[Path]:
    """Where modules lie: what a link leads to is what ran."""
    return sorted({path.resolve() for path in modules})


def _owner(roots: Sequence[CodeRoot], path: Path) -> CodeRoot | None:
    """The root that a file belongs to: there is no other repository between them."""
    root = root_around(roots, str(path))
    if root is None or (root.kind == "plain" and is_too_wide(Path(root.path))):
        return None
    top = Path(root.path)
    between = (one for one in path.parents if top in one.parents)
    return None if any((one / ".git").exists() for one in between) else root


def _to_capture(path: Path) -> Path:
    """The folder that a module was found in, or the repository below it that the module lies in."""
    repository = next((one for one in path.parents if (one / ".git").exists()), None)
    folder = _import_root(path)
    return repository if repository is not None and folder in repository.parents else folder


def _import_root(path: Path) -> Path:
    """The folder around a module's outermost package; where that is nobody's project, the package itself."""
    package = path
    while (package.parent / "__init__.py").exists():
        package = package.parent
    return package if is_too_wide(package.parent) else package.parent


def _ignored(top: Path, files: Sequence[Path]) -> list[Path]:
    repository = find_repository(top)
    if repository is None:  # it was one when it was captured
        return []
    place = ["--git-dir", str(repository.git_dir), "--work-tree", str(repository.top)]
    settings = [
        part for name, value in repository.tree_settings.items() for part in ("-c", f"{name}={value}")
    ]
    asked = [*settings, *place, "check-ignore", "-z", "--stdin"]
    content = b"".join(os.fsencode(path) + b"\0" for path in files)
    out = user_git(asked, cwd=repository.top, content=content, fine=(0, 1))
    return [Path(os.fsdecode(name)) for name in out.split(b"\0") if name]
