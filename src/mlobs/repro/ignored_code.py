"""Code that ran and that a snapshot has not: modules of the program's repositories which git ignores."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mlobs.repro.code_root import CodeRoot
from mlobs.repro.git import user_git
from mlobs.repro.git_repository import find_repository


def ignored_modules(roots: Iterable[CodeRoot], modules: Iterable[Path]) -> list[Path]:
    """Return which files of loaded modules git ignores, each asked of the innermost repository it is in.

    Raises:
        GitFailed: git does not answer.
    """
    left = {path.resolve() for path in modules}
    found: list[Path] = []
    for root in sorted(roots, key=lambda one: len(one.path), reverse=True):
        inside = sorted(path for path in left if path.is_relative_to(root.path))
        left -= set(inside)
        if inside and root.kind == "git":
            found += _ignored(Path(root.path), inside)
    return sorted(found)


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
