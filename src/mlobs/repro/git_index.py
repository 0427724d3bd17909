"""A copy of the user's index brought up to what is on the disk, byte for byte.

The copy keeps git's memory of file times, so that only files that changed are read. Where a
configuration converts line ends or filters files, the index has other bytes than the disk: such files
are found by their size or their attribute, and taken as they lie there.
"""

from __future__ import annotations

import os
import re
import shutil
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mlobs.repro.git import GitFailed, ScratchGit
from mlobs.repro.git_objects import LINK, MODULE, build_trees
from mlobs.repro.git_repository import Repository

_ENTRY = re.compile(
    rb"(?s)([A-Za-z]) (\d{6}) ([0-9a-f]{40}) (\d)\t([^\0]*)\0"
    rb"  ctime: \d+:\d+\n  mtime: (\d+):(\d+)\n  dev: \d+\tino: \d+\n  uid: \d+\tgid: \d+\n"
    rb"  size: (\d+)\tflags: [0-9a-f]+\n"
)
_CONVERTING = re.compile(rb"\b(?:text|eol|crlf|filter|ident|working-tree-encoding)\b")
_FILTERING = re.compile(rb"\b(?:filter|ident|working-tree-encoding)\b")
_MOST_ATTRIBUTES = 1 << 20  # bytes of one .gitattributes; git itself stops at 100 MB


class Entry(NamedTuple):
    """A file that git knows; `changed_ns` is when it changed, in Unix nanoseconds.

    `tag` is that of `git ls-files -v`: lower case is assume-unchanged, S is skip-worktree.
    """

    tag: str
    mode: str
    blob: str
    size_bytes: int
    changed_ns: int

    @property
    def is_hidden(self) -> bool:
        """Whether git was told not to look at the file."""
        return self.tag.islower() or self.tag == "S"


class Index(NamedTuple):
    """The files that git knows, by name; `is_fresh` if its memory of file times could not be copied."""

    entries: dict[bytes, Entry]
    unmerged: frozenset[bytes]
    warnings: tuple[str, ...]


def copy_index(repository: Repository, scratch: ScratchGit) -> Index:
    """Copy the user's index into the scratch folder and list it.

    One that cannot be read there is made anew from the commit: slower, and files that were added but not
    committed then count as untracked.
    """
    for source in (repository.git_dir / "index", *repository.git_dir.glob("sharedindex.*")):
        if source.is_file():
            shutil.copy2(
                source, scratch.folder / source.name
            )  # its time too: git distrusts files that are newer
    ignored = repository.common_dir / "info" / "exclude"
    if ignored.is_file():
        shutil.copyfile(ignored, scratch.folder / "info" / "exclude")
    try:
        return _listed(scratch, ())
    except GitFailed as error:
        if repository.head_tree is None:
            raise
        (scratch.folder / "index").unlink(missing_ok=True)
        scratch.run("read-tree", repository.head_tree)
        return _listed(scratch, (f"the index could not be read, the commit was taken instead: {error}",))


def _listed(scratch: ScratchGit, warnings: tuple[str, ...]) -> Index:
    entries, unmerged = {}, set()
    for tag, mode, blob, stage, name, s, ns, size in _ENTRY.findall(
        scratch.run("ls-files", "-s", "-v", "--debug", "-z")
    ):
        entries[name] = Entry(
            tag.decode(), mode.decode(), blob.decode(), int(size), int(s) * 1_000_000_000 + int(ns)
        )
        if stage != b"0":
            unmerged.add(name)
    return Index(entries, frozenset(unmerged), warnings)


def changed_names(scratch: ScratchGit, index: Index) -> set[bytes]:
    """The known files that differ from the index, or may: their times do, or git was told not to look."""
    out = scratch.run("diff-files", "-z", "--name-only", "--ignore-submodules=dirty")
    changed = set(out.split(b"\0")) - {b""}
    return changed | index.unmerged | {name for name, entry in index.entries.items() if entry.is_hidden}


def untracked_names(scratch: ScratchGit) -> list[bytes]:
    """The files that git neither knows nor ignores; one that ends in "/" is a repository of its own."""
    return [name for name in scratch.run("ls-files", "-o", "--exclude-standard", "-z").split(b"\0") if name]


def converted_names(
    repository: Repository, scratch: ScratchGit, index: Index, new: list[bytes]
) -> tuple[set[bytes], dict[bytes, str]]:
    """The known files with other bytes on the disk than in the index, and the filters of all files."""
    attributes = _attributes(repository, index)
    is_converting = (
        repository.said("core.autocrlf") in ("true", "input") or repository.said("core.eol") == "crlf"
    )
    if not is_converting and not _CONVERTING.search(attributes):
        return set(), {}
    files = {
        name: one for name, one in index.entries.items() if one.mode not in (LINK, MODULE) and one.tag != "S"
    }
    sizes = blob_sizes(scratch, (one.blob for one in files.values()))
    here = {
        name: one.size_bytes or _size(repository, name) for name, one in files.items()
    }  # 0: git distrusts it
    converted = {name for name, one in files.items() if sizes.get(one.blob) != here[name]}
    filters = _filters_of(repository, scratch, [*files, *new]) if _FILTERING.search(attributes) else {}
    return converted | (set(filters) & set(files)), filters


def untouched_names(repository: Repository, index: Index, names: Iterable[bytes]) -> set[bytes]:
    """Which files have the very time and size that git noted, although it may distrust them.

    It distrusts files that are no older than the index. Then it reads them, and what a filter made of
    them cannot be compared with the index without running the filter.
    """
    found = set()
    for name in names:
        entry, path = index.entries[name], repository.top / os.fsdecode(name)
        try:
            state = path.lstat()
        except OSError:  # it is gone, so it was touched
            continue
        if state.st_mtime_ns == entry.changed_ns and entry.size_bytes in (0, state.st_size):
            found.add(name)
    return found


def _filters_of(repository: Repository, scratch: ScratchGit, names: list[bytes]) -> dict[bytes, str]:
    """The files that an attribute rewrites when they are checked in, with the driver's name."""
    own, ours = repository.common_dir / "info" / "attributes", scratch.folder / "info" / "attributes"
    quiet = ours.read_bytes()
    ours.write_bytes(own.read_bytes() if own.is_file() else b"")
    try:
        asked = ("check-attr", "-z", "--stdin", "filter", "working-tree-encoding", "ident")
        file = f"core.attributesFile={_own_attributes(repository)}"
        parts = scratch.run("-c", file, *asked, content=_ended(names)).split(b"\0")
    finally:
        ours.write_bytes(quiet)
    found: dict[bytes, str] = {}
    for name, attribute, value in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        if value not in (b"unspecified", b"unset"):
            is_driver = attribute == b"filter"
            found.setdefault(
                name, value.decode("utf-8", "replace") if is_driver else attribute.decode("ascii")
            )
    return found


def _size(repository: Repository, name: bytes) -> int:
    try:
        return (repository.top / os.fsdecode(name)).lstat().st_size
    except OSError:  # gone: it is among the changed ones
        return 0


def blob_sizes(scratch: ScratchGit, blobs: Iterable[str]) -> dict[str, int]:
    """The size in bytes of each object that is there."""
    wanted = "".join(f"{blob}\n" for blob in sorted(set(blobs))).encode("ascii")
    if not wanted:
        return {}
    out = scratch.run("cat-file", "--batch-check=%(objectname) %(objectsize)", "--buffer", content=wanted)
    pairs = (line.split() for line in out.decode("ascii", "replace").splitlines())
    return {name: int(size) for name, size in pairs if size.isdigit()}


def bring_up_to_date(scratch: ScratchGit, names: Iterable[bytes], *, forced: set[bytes]) -> None:
    """Take files as they are on the disk into the index: new, changed or gone.

    `forced` are read although their times say that they did not change.
    """
    names = sorted(names)
    gone = sorted(forced & set(names))
    if gone:
        scratch.write("update-index", "-z", "--force-remove", "--stdin", content=_ended(gone))
    if names:
        scratch.write(
            "update-index", "--add", "--remove", "--replace", "-z", "--stdin", content=_ended(names)
        )


def leave_out(scratch: ScratchGit, names: Iterable[bytes]) -> None:
    """Take files out of the index; on the disk they stay."""
    if content := _ended(sorted(names)):
        scratch.write("update-index", "-z", "--force-remove", "--stdin", content=content)


def write_tree(scratch: ScratchGit, known: set[str]) -> str:
    """Write the index as a tree and return its id; `known` trees are in the user's repository.

    Git's own `write-tree` gives objects that it finds there a new time.
    """
    files = {}
    for line in scratch.run("ls-files", "-s", "-z").split(b"\0")[:-1]:
        facts, _, name = line.partition(b"\t")
        mode, oid, _stage = facts.decode("ascii").split()
        files[name] = (mode, oid)
    built: dict[str, bytes] = {}
    tree = build_trees(files, built)
    for oid, body in built.items():
        if oid not in known:
            path = scratch.folder / "made" / oid[:2] / oid[2:]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(zlib.compress(b"tree %d\0" % len(body) + body, 1))
    return tree


def trees_in(scratch: ScratchGit, tree: str | None) -> set[str]:
    """The ids of a tree and all trees in it."""
    if tree is None:
        return set()
    lines = scratch.run("ls-tree", "-r", "-d", "-z", "--full-tree", tree).split(b"\0")[:-1]
    return {tree, *(line.split(b"\t")[0].split()[-1].decode("ascii") for line in lines)}


def _ended(names: list[bytes]) -> bytes:
    return b"".join(name + b"\0" for name in names)


def _attributes(repository: Repository, index: Index) -> bytes:
    """All texts that may give attributes to a file, one after another."""
    files = [repository.top / os.fsdecode(name) for name in index.entries if name.endswith(b".gitattributes")]
    files += [repository.top / ".gitattributes", repository.common_dir / "info" / "attributes"]
    files.append(_own_attributes(repository))
    return b"\n".join(file.read_bytes()[:_MOST_ATTRIBUTES] for file in files if file.is_file())


def _own_attributes(repository: Repository) -> Path:
    named = repository.config.get("core.attributesfile", ["~/.config/git/attributes"])[-1]
    return Path(os.path.expanduser(named))  # noqa: PTH111 - also ~name
