"""Captured code, put back into a fresh folder and proven to be the tree that was recorded."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from mlobs.errors import UsageError
from mlobs.repro.code_root import CodeRoot, Excluded
from mlobs.repro.git import GitFailed, ScratchGit, git, scratch_git
from mlobs.repro.git_objects import EXECUTABLE, LINK, MODULE, Ids, blob_id, tree_id
from mlobs.repro.git_repository import find_repository
from mlobs.repro.plain_tree import Files, files_in, read_file

_FETCH_S = 600.0  # of one remote; the measured repository of 100 MB took 4 s
_NO_HOOKS = ("-c", f"core.hooksPath={os.devnull}", "-c", "gc.auto=0")
_FETCH = ("-q", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
_PROTOCOLS = "file:git:http:https:ssh"  # what an address of a record may make git do: no `ext::` commands

OpenPack: TypeAlias = Callable[[CodeRoot], bytes | Path]


@dataclass
class RestoreReport:
    """What lies where. `moved` has for each root where it was, and where it is now.

    `sources` says for each root where the commit came from that its pack stands on: a repository of this
    machine, a remote's address, or nothing if the pack is whole. `excluded` are the files that the run may
    have had and this folder has not.
    """

    folder: Path
    files: int = 0
    moved: dict[str, Path] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    excluded: list[Excluded] = field(default_factory=list)


def restore_code(
    roots: Sequence[CodeRoot], open_pack: OpenPack, dest: Path, *, sources: Sequence[Path] = ()
) -> RestoreReport:
    """Write the roots' files into a folder, and check that each is the tree that was recorded.

    `open_pack` returns the pack of a root, as content or file; it is not asked for one of 0 bytes. What a
    thin pack stands on is read from the repository where the code was, or one of `sources`, which stay
    as they are; else it is fetched from a remote of the record, with the user's own git configuration.
    The folder must not exist, or be empty. What was restored when an error is raised stays there.

    Raises:
        UsageError: the folder is not empty, the base commit is nowhere to be found, a pack is damaged, or
            what was written is not the recorded tree.
    """
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise UsageError(f"{dest} is not empty, expected a new folder - name another one")
    dest = dest.absolute()  # git runs in it, and a relative name would be below it then
    report = RestoreReport(dest)
    for root in sorted(roots, key=lambda one: one.place.count("/") + bool(one.place)):
        place = _place(dest, root)
        place.mkdir(parents=True, exist_ok=True)
        if root.kind == "plain":
            found = _restore_plain(root, open_pack, place)
            report.sources[root.path] = ""
        elif root.kind == "git":
            found = _restore_git(root, open_pack, place, sources, report)
        else:
            raise UsageError(
                f"the code was captured as {root.kind!r} by a newer mlobs - type: pip install -U mlobs"
            )
        if (tree := tree_id(found)) != root.tree:
            raise UsageError(f"the code restored to {place} is the tree {tree}, the record says {root.tree}")
        report.files += sum(mode != MODULE for mode, _ in found.values())
        report.moved[root.path] = place
        report.excluded += root.excluded
    return report


def _place(dest: Path, root: CodeRoot) -> Path:
    parts = PurePosixPath(root.place).parts
    if ".." in parts or ".git" in parts or PurePosixPath(root.place).is_absolute() or "\\" in root.place:
        raise UsageError(f"the record puts code at {root.place!r}, outside of the folder")
    place = dest.joinpath(*parts)
    for depth in range(1, len(parts)):
        if dest.joinpath(*parts[:depth]).is_symlink():
            raise UsageError(f"the record puts code at {root.place!r}, behind a link")
    return place


def _content(root: CodeRoot, open_pack: OpenPack) -> bytes:
    pack = open_pack(root)
    return pack if isinstance(pack, bytes) else pack.read_bytes()


# A plain folder


def _restore_plain(root: CodeRoot, open_pack: OpenPack, place: Path) -> Ids:
    """Write the files and return what then lies there."""
    try:
        files = files_in(_content(root, open_pack)) if root.pack_bytes else {}
    except ValueError as error:
        raise UsageError(f"the code of {root.path} cannot be restored: {error}") from error
    expected = tree_id({name: (mode, blob_id(content)) for name, (mode, content) in files.items()})
    if expected != root.tree:
        raise UsageError(f"the pack of {root.path} has the tree {expected}, the record says {root.tree}")
    _write(files, place)
    return dict(_on_disk(place))


def _write(files: Files, place: Path) -> None:
    """Links come last: no file can be written through one."""
    for name, (mode, content) in sorted(files.items(), key=lambda one: (one[1][0] == LINK, one[0])):
        parts = name.split(b"/")
        if any(part in (b"", b".", b"..") or part.lower() == b".git" for part in parts):
            raise UsageError(f"the pack has a file {name!r}, outside of the folder")
        path = place / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode == LINK:
            path.symlink_to(os.fsdecode(content))
            continue
        path.write_bytes(content)
        if mode == EXECUTABLE:
            path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def _on_disk(place: Path) -> Iterator[tuple[bytes, tuple[str, str]]]:
    """Mode and id of every file below a folder, read anew."""
    for folder, folders, files in os.walk(place):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for path in (Path(folder) / name for name in (*files, *links)):
            mode, content = read_file(path, path.lstat())
            yield os.fsencode(path.relative_to(place).as_posix()), (mode, blob_id(content))


# A repository


def _restore_git(
    root: CodeRoot, open_pack: OpenPack, place: Path, sources: Sequence[Path], report: RestoreReport
) -> Ids:
    """Write the files and return what then lies there."""
    own = Path(tempfile.mkdtemp(prefix="mlobs-restore-"))
    try:
        objects = _local_base(root, sources)
        scratch = scratch_git(own, place, objects=[objects] if objects else [])
        report.sources[root.path] = str(objects.parent) if objects else ""
        if objects is None and root.base is not None:
            report.sources[root.path] = _fetch(root, scratch)
        _unpack(root, scratch, open_pack)
        scratch.run("checkout-index", "-a", "-f")
        modules = _modules(scratch)
        return {**dict(_on_disk(place)), **modules}
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _unpack(root: CodeRoot, scratch: ScratchGit, open_pack: OpenPack) -> None:
    try:
        if root.pack_bytes:
            scratch.run("index-pack", "--stdin", "--fix-thin", content=_content(root, open_pack))
        scratch.run("read-tree", root.tree)
    except GitFailed as error:
        raise UsageError(
            f"the code of {root.path} cannot be restored, its pack is damaged: {error}"
        ) from error


def _modules(scratch: ScratchGit) -> Ids:
    """The submodules of the tree: their files are roots of their own."""
    found = {}
    for line in scratch.run("ls-files", "-s", "-z").split(b"\0")[:-1]:
        facts, _, name = line.partition(b"\t")
        mode, oid, _stage = facts.decode("ascii").split()
        if mode == MODULE:
            found[name] = (mode, oid)
    return found


def _local_base(root: CodeRoot, sources: Iterable[Path]) -> Path | None:
    """The objects of a repository on this machine that has the base; None if none has, or none is needed."""
    if root.base is None:
        return None
    for folder in (Path(root.path), *sources):
        try:
            repository = find_repository(folder) if folder.is_dir() else None
            if repository is not None:
                asked = ["--git-dir", str(repository.git_dir), "cat-file", "-e", f"{root.base}^{{tree}}"]
                git(asked, cwd=folder, environment={"GIT_NO_LAZY_FETCH": "1"})
                return repository.objects
        except GitFailed:  # it does not have it: the next one may
            continue
    return None


def _fetch(root: CodeRoot, scratch: ScratchGit) -> str:
    """Fetch the base from a remote, by the user's own access rights, and return the remote's address."""
    said = []
    for url in root.remotes.values():
        for wanted in (
            [f"{root.base}"],
            ["+refs/heads/*:refs/remotes/all/*"],
        ):  # not every server gives a commit by id
            depth = ["--depth=1"] if wanted[0] == root.base else []
            try:
                git(
                    [*_NO_HOOKS, "fetch", *_FETCH, *depth, "--", url, *wanted],
                    cwd=scratch.tree,
                    environment={"GIT_DIR": str(scratch.folder), "GIT_ALLOW_PROTOCOL": _PROTOCOLS},
                    timeout_s=_FETCH_S,
                )
                scratch.run("cat-file", "-e", f"{root.base}^{{tree}}")
            except GitFailed as error:
                said.append(str(error))
            else:
                return url
    asked = ", ".join(root.remotes.values()) or "none is recorded"
    raise UsageError(
        f"the code of {root.path} stands on the commit {root.base}, which is not there any more, and "
        f"could not be fetched (remotes: {asked}; {said[-1] if said else 'nothing was tried'}) - clone the "
        "repository, and name it in sources="
    )
