"""The code of a run: every repository and folder that it is loaded from, exactly as on the disk."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mlobs.errors import UsageError
from mlobs.repro.code_root import CodeRoot, Excluded, Limits, Missing
from mlobs.repro.git import GitFailed, has_git, user_git
from mlobs.repro.git_repository import Repository, find_repository
from mlobs.repro.git_tree import CapturedRoot, capture_repository
from mlobs.repro.places import is_library, is_too_wide
from mlobs.repro.plain_tree import capture_folder
from mlobs.repro.selection import Outputs

__all__ = [
    "CodeRoot",
    "CodeSnapshot",
    "CodeUncaptured",
    "Excluded",
    "Limits",
    "Missing",
    "Outputs",
    "snapshot_code",
]

_NO_GIT = "git is not installed: files that .gitignore names were captured too"


class CodeUncaptured(UsageError):
    """Nothing at all could be captured; the message says why."""


@dataclass(frozen=True)
class CodeSnapshot:
    """The roots, the main one first, and the file with the pack of each tree that has one.

    `missing` are roots that could not be captured; `seconds` is what all of it took. `loose` are those of the
    roots, and `loose_missing` of the missing ones, that are neither the main root nor a submodule of it.
    """

    roots: tuple[CodeRoot, ...]
    packs: Mapping[str, Path]
    seconds: float
    missing: tuple[Missing, ...] = ()
    loose: tuple[CodeRoot, ...] = ()
    loose_missing: tuple[Missing, ...] = ()


@dataclass
class _Wanted:
    """A root to capture: a folder, or only some files in it."""

    folder: Path
    place: str
    only: list[Path] = field(default_factory=list)


def snapshot_code(
    root: Path | None = None,
    *,
    script: Path | None = None,
    scratch: Path,
    started_at: float | None = None,
    loose: Sequence[Path] = (),
    outputs: Outputs | None = None,
    limits: Limits | None = None,
    is_whole: bool = False,
) -> CodeSnapshot:
    """Capture the code of a run: its main root, the submodules in it, and `loose` roots beside it.

    The main root is the repository around `root`, or else around the `script`, or the working directory;
    without a repository that folder itself. A folder that is nobody's project (a home, `/tmp`, a library)
    is not captured: then it is the script alone. `loose` are folders or files that modules were loaded
    from; of a repository that lies in the main root the place stays what it was. `outputs` is where programs
    write. Packs are written to the folder `scratch`,
    by the name of their tree. Files that changed after `started_at` (Unix seconds) are listed in the
    warnings of their root. With `is_whole` a pack stands on no commit of a remote.

    The user's index, refs, hooks and objects are not touched, no filter is run, nothing is asked. A root
    that fails, and a call of git that takes more than 30 s, are in `missing`.

    Raises:
        CodeUncaptured: no root could be captured.
    """
    began = time.monotonic()
    work = _Capturing(
        scratch, limits or Limits(), started_at, _resolved(outputs or Outputs(), scratch), is_whole=is_whole
    )
    main = _main(root, script)
    for wanted in main:
        work.capture(wanted)
    own, lost = len(work.done), len(work.missing)
    for wanted in _loose(main, [path for path in loose if path.exists()]):
        work.capture(wanted)
    if not work.done:
        reasons = "; ".join(f"{one.path}: {one.reason}" for one in work.missing)
        raise CodeUncaptured(
            f"no code was captured: {reasons or 'the program has no script and its folder is no project'}"
            " - start the program in the folder of its code, or name one with root="
        )
    packs = {one.root.tree: one.pack for one in work.done if one.pack is not None}
    roots = tuple(one.root for one in work.done)
    return CodeSnapshot(
        roots, packs, time.monotonic() - began, tuple(work.missing), roots[own:], tuple(work.missing[lost:])
    )


class _Capturing:
    """Captures one root after the other; what fails is recorded."""

    def __init__(
        self,
        scratch: Path,
        limits: Limits,
        started_at: float | None,
        outputs: Outputs,
        *,
        is_whole: bool,
    ) -> None:
        self._is_whole = is_whole
        self._scratch, self._limits, self._started_at = scratch, limits, started_at
        self._outputs = outputs
        self.done: list[CapturedRoot] = []
        self.missing: list[Missing] = []
        self._seen: set[Path] = set()
        scratch.mkdir(parents=True, exist_ok=True)

    def capture(self, wanted: _Wanted) -> None:
        try:
            repository, warnings = _repository(wanted)
            top = repository.top if repository else wanted.folder
            if top in self._seen and not wanted.only:
                return
            self._seen.add(top)
            wanted.place = self._place_inside(top) or wanted.place
            captured = self._captured(repository, wanted, warnings)
        except (GitFailed, OSError) as error:
            self.missing.append(Missing(str(wanted.folder), str(error)))
            return
        self.done.append(self._named(captured))
        for module in captured.modules:
            place = f"{wanted.place}/{module}" if wanted.place else module
            self.capture(_Wanted(Path(captured.root.path) / module, place))

    def _captured(self, repository: Repository | None, wanted: _Wanted, warnings: list[str]) -> CapturedRoot:
        limits, started_at = self._limits, self._started_at
        folder = self._scratch / f"root-{len(self._seen)}"
        if repository is None:
            pack = folder.with_name(f"{folder.name}.pack")
            return capture_folder(
                wanted.folder,
                place=wanted.place,
                pack=pack,
                limits=limits,
                started_at=started_at,
                outputs=self._outputs,
                only=wanted.only,
                warnings=warnings,
            )
        try:
            return capture_repository(
                repository,
                place=wanted.place,
                folder=folder,
                limits=limits,
                started_at=started_at,
                is_whole=self._is_whole,
                outputs=self._outputs,
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # it may hold what was found to be secret

    def _place_inside(self, top: Path) -> str | None:
        """The place of a repository that lies in another root, which does not have it; None for others."""
        around = [one.root for one in self.done if Path(one.root.path) in top.parents]
        if not around or not (top / ".git").exists():
            return None
        root = max(around, key=lambda one: len(one.path))
        return PurePosixPath(root.place, top.relative_to(root.path).as_posix()).as_posix()

    def _named(self, captured: CapturedRoot) -> CapturedRoot:
        if captured.pack is None:
            return captured
        named = captured.pack.with_name(f"{captured.root.tree}.pack")
        captured.pack.replace(named)
        return CapturedRoot(captured.root, named, captured.modules)


def _resolved(outputs: Outputs, scratch: Path) -> Outputs:
    stores = frozenset(path.resolve() for path in (scratch, *outputs.stores))
    return Outputs(stores, frozenset(path.resolve() for path in outputs.backends))


def _repository(wanted: _Wanted) -> tuple[Repository | None, list[str]]:
    """The repository to capture, and what is to be said where there is one that cannot be."""
    if wanted.only:
        return None, []
    if not has_git():
        return None, [_NO_GIT]
    try:
        repository = find_repository(wanted.folder)
    except GitFailed as error:
        return None, [f"captured as a plain folder: {error}"]
    if repository is None or is_too_wide(repository.top) or _is_ignored(wanted.folder, repository):
        return None, []
    return repository, []


def _is_ignored(folder: Path, repository: Repository) -> bool:
    """Whether a repository does not have what lies in one of its folders."""
    if folder.resolve() == repository.top.resolve():
        return False
    place = ["--git-dir", str(repository.git_dir), "--work-tree", str(repository.top)]
    settings = [
        part for name, value in repository.tree_settings.items() for part in ("-c", f"{name}={value}")
    ]
    asked = [*settings, *place, "check-ignore", "--", str(folder)]
    is_ignored = bool(user_git(asked, cwd=folder, fine=(0, 1)))
    return is_ignored and not user_git([*place, "ls-files", "-z", "--", "."], cwd=folder)


def _main(root: Path | None, script: Path | None) -> list[_Wanted]:
    """What the main root is: the folder that was named, the script's, or the working directory."""
    if root is not None:
        return [_Wanted(root.resolve(), "")]
    own = script.resolve() if script is not None else None
    if own is not None and (
        not own.is_file() or is_library(str(own)) or own.parent == Path(sys.executable).parent.resolve()
    ):  # started by `torchrun`, `pytest`, a kernel
        own = None
    folder = own.parent if own is not None else Path.cwd()
    if not is_too_wide(folder):
        return [_Wanted(folder, "")]
    return [_Wanted(folder, "", [own])] if own is not None else []


def _loose(main: Sequence[_Wanted], paths: Sequence[Path]) -> Iterator[_Wanted]:
    """Roots beside the main one, each with a name of its own; single files of a folder are one root."""
    around = [parent for one in main for parent in (one.folder, *one.folder.parents)]
    names = {
        path.name.lower() for parent in around for path in (parent / "loose").glob("*")
    }  # theirs stay theirs
    wanted: dict[Path, _Wanted] = {}
    covered = [one.folder for one in main if not one.only]
    for path in (one.resolve() for one in paths):
        folder = path.parent if path.is_file() else path
        if is_library(str(path)) or (path.is_dir() and is_too_wide(path)) or folder in covered:
            continue
        one = wanted.setdefault(folder, _Wanted(folder, f"loose/{_free_name(folder.name, names)}"))
        if path.is_file():
            one.only.append(path)
    yield from wanted.values()


def _free_name(name: str, names: set[str]) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "root"
    free, count = plain, 1
    while free.lower() in names:
        count += 1
        free = f"{plain}-{count}"
    names.add(free.lower())
    return free
