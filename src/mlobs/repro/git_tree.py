"""One repository as it is on the disk: its tree, and a pack of what no remote has.

Nothing of the user's repository is written. The tree is what lies on the disk, whatever git was told
not to look at, so the copied index is brought up to it; then what must not be packed is taken out, and
the tree of what is left is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mlobs.repro import git_index as index_of
from mlobs.repro.code_root import KEPT, CodeRoot, Excluded, Limits, shown
from mlobs.repro.git import GitFailed, ScratchGit, scratch_git
from mlobs.repro.git_index import Entry, Index
from mlobs.repro.git_objects import MODULE
from mlobs.repro.git_pack import (
    Difference,
    contents,
    differences,
    names_with_secrets,
    readable_patch,
    total_bytes,
    write_pack,
)
from mlobs.repro.git_repository import Repository, pushed_base
from mlobs.repro.selection import SECRET_INSIDE, SECRET_NAME, Outputs, Selection, sha256_of
from mlobs.secrets import masked

_CRYPTS = ("crypt", "sops", "gpg", "vault")  # drivers that decrypt: the disk has what the repository hides
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"


@dataclass(frozen=True)
class CapturedRoot:
    """A root, the file with its pack (None: nothing had to be packed), and its checked out submodules."""

    root: CodeRoot
    pack: Path | None
    modules: tuple[str, ...] = ()


def capture_repository(
    repository: Repository,
    *,
    place: str,
    folder: Path,
    limits: Limits,
    started_at: float | None,
    is_whole: bool = False,
    outputs: Outputs | None = None,
) -> CapturedRoot:
    """Capture the working tree of a repository into an empty folder of our own.

    `is_whole`: the pack stands on no commit.

    Raises:
        GitFailed: git refused, or did not end in time.
        OSError: the folder cannot be written.
    """
    scratch = scratch_git(
        folder, repository.top, objects=[repository.objects], settings=repository.tree_settings
    )
    index = index_of.copy_index(repository, scratch)
    capture = _Capture(repository, scratch, index, Selection(repository.top, limits, outputs or Outputs()))
    capture.take_files()
    capture.warn_of_state(started_at)
    base, tree, found = capture.packable(None if is_whole else capture.base())
    pack = folder.with_name(f"{folder.name}.pack")
    is_packed = capture.tree_of(base) != tree
    size = write_pack(scratch, tree, base, found, pack) if is_packed else 0
    return CapturedRoot(
        capture.root(place, tree, base, size, found), pack if is_packed else None, capture.modules()
    )


class _Capture:
    """The steps of one capture, in their order."""

    def __init__(
        self, repository: Repository, scratch: ScratchGit, index: Index, selection: Selection
    ) -> None:
        self._repository, self._scratch, self._index, self._selection = repository, scratch, index, selection
        self._converted: set[bytes] = set()
        self._changed: set[bytes] = set()
        self._trees = index_of.trees_in(scratch, repository.head_tree)
        selection.warnings += index.warnings

    def take_files(self) -> None:
        """Bring the index up to the disk, without what is left out."""
        known, selection = self._index.entries, self._selection
        self._changed = index_of.changed_names(self._scratch, self._index)
        new = self._untracked()
        converted, filters = index_of.converted_names(self._repository, self._scratch, self._index, new)
        self._changed -= index_of.untouched_names(self._repository, self._index, self._changed & converted)
        kept = self._kept_as_committed(filters, converted)
        self._converted = converted - kept - self._changed
        names = (self._changed | self._converted) - kept - set(selection.excluded)
        selection.consider([*sorted(names), *(name for name in new if name not in selection.excluded)])
        forced = self._converted | self._index.unmerged | {name for name in names if known[name].is_hidden}
        index_of.bring_up_to_date(self._scratch, selection.taken, forced=forced & set(selection.taken))
        index_of.leave_out(self._scratch, set(selection.excluded) & set(known) - kept)
        self._point_to_large_files(filters)

    def _untracked(self) -> list[bytes]:
        try:
            names = index_of.untracked_names(self._scratch)
        except GitFailed as error:
            self._selection.warn(f"files that git does not know were not looked for: {error}")
            return []
        nested = [name for name in names if name.endswith(b"/")]
        self._selection.warn_of("a repository inside, of which only what is imported is captured", nested)
        return self._selection.leave_out_folders(name for name in names if not name.endswith(b"/"))

    def _kept_as_committed(self, filters: dict[bytes, str], converted: set[bytes]) -> set[bytes]:
        """Unchanged files of Git LFS, and decrypted ones: the tree keeps what the repository has of them.

        A decrypted one that is new or was changed is left out.
        """
        kept: dict[bytes, str] = {}
        large = []
        for name, driver in filters.items():
            is_changed = name in self._changed or name not in self._index.entries
            if any(crypt in driver.lower() for crypt in _CRYPTS) and is_changed:
                self._selection.leave_out(name, SECRET_INSIDE)
            elif any(crypt in driver.lower() for crypt in _CRYPTS):
                kept[name] = f"the filter {driver} decrypts it: the encrypted form {KEPT}"
            elif driver == "lfs" and not is_changed and name in converted:
                large.append(name)
        digests = self._digests_of_pointers(large)
        kept |= dict.fromkeys(digests, f"Git LFS has it: the pointer {KEPT}")
        for name, reason in kept.items():
            size = self._index.entries[name].size_bytes
            self._selection.excluded[name] = Excluded(masked(shown(name)), size, digests.get(name), reason)
        return set(kept)

    def _digests_of_pointers(self, names: list[bytes]) -> dict[bytes, str]:
        """What the pointers of Git LFS in the index say of the contents."""
        blobs = {self._index.entries[name].blob: name for name in names}
        found: dict[bytes, str] = {}
        for blob, content in contents(self._scratch, blobs):
            if content.startswith(_LFS_POINTER):
                oid = content.partition(b"oid sha256:")[2][:64].decode("ascii", "replace")
                found |= {name: f"sha256:{oid}" for name in names if self._index.entries[name].blob == blob}
        return found

    def _point_to_large_files(self, filters: dict[bytes, str]) -> None:
        """Put a pointer of Git LFS, as it would write it, in place of a changed file that is too large."""
        for name, one in list(self._selection.excluded.items()):
            path = self._repository.top / os.fsdecode(name)
            if filters.get(name) == "lfs" and one.reason.startswith("it is larger") and name in self._changed:
                digest = sha256_of(path)
                pointer = _LFS_POINTER + f"oid sha256:{digest}\nsize {one.size_bytes}\n".encode("ascii")
                blob = self._scratch.write("hash-object", "-w", "--stdin", content=pointer).strip()
                line = b"100644 " + blob + b"\t" + name + b"\0"
                self._scratch.write("update-index", "-z", "--index-info", content=line)
                reason = f"{one.reason}: a pointer of Git LFS stands for it"
                self._selection.excluded[name] = Excluded(
                    one.path, one.size_bytes, f"sha256:{digest}", reason
                )

    def warn_of_state(self, started_at: float | None) -> None:
        """Say what makes the captured tree doubtful."""
        entries, selection = self._index.entries, self._selection
        selection.warn_of("changed while it was read", selection.changed_while_read())
        told = {name for name, one in entries.items() if one.is_hidden and name in selection.taken}
        absent = {name for name in told if entries[name].tag == "S" and selection.taken[name] is None}
        selection.warn_of("git was told not to look at it, it was captured as it is", told - absent)
        absent_modules = {name for name in _modules(entries.items()) if not self._is_checked_out(name)}
        selection.warn_of("a submodule that is not checked out was not captured", absent_modules)
        if absent:
            selection.warn(
                f"{len(absent)} files are outside of the sparse checkout: they are not in the tree"
            )
        if started_at is not None:
            late = {name for name, state in selection.taken.items() if state and state.st_mtime > started_at}
            late |= {
                name
                for name, one in entries.items()
                if one.changed_ns > started_at * 1e9 and one.mode != MODULE
            }
            selection.warn_of("changed after the start", late)

    def base(self) -> str | None:
        """The commit that a remote has; None if no remote has any."""
        base = pushed_base(self._repository)
        try:
            self.tree_of(base)
        except GitFailed as error:  # a partial clone may lack it: the pack is then whole
            self._selection.warn(f"the commit {base} is not whole here: {error}")
            return None
        return base

    def tree_of(self, commit: str | None) -> str | None:
        """The tree of a commit."""
        if commit is None or commit == self._repository.commit:
            return self._repository.head_tree if commit else None
        return self._scratch.run("rev-parse", f"{commit}^{{tree}}").decode("ascii").strip()

    def write_tree(self) -> str:
        """Write what the index has now; return the id."""
        return index_of.write_tree(self._scratch, self._trees)

    def packable(self, base: str | None) -> tuple[str | None, str, list[Difference]]:
        """Take files with secrets out of the index; return the base, the tree, and what it has beyond."""
        tree = self.write_tree()
        found = differences(self._scratch, self.tree_of(base), tree)
        limit = self._selection.limits.total_bytes
        if base is None and self._repository.commit and total_bytes(self._scratch, found) > limit:
            base = self._repository.commit
            self._selection.warn(
                f"no remote has the commit {base}, and a pack of all its files is over {limit} bytes"
            )
            found = differences(self._scratch, self.tree_of(base), tree)
        secret = names_with_secrets(self._scratch, found)
        if secret:
            for name, is_named in secret.items():
                self._selection.leave_out(name, SECRET_NAME if is_named else SECRET_INSIDE)
            index_of.leave_out(self._scratch, secret)
            tree = self.write_tree()
            found = differences(self._scratch, self.tree_of(base), tree)
        return base, tree, found

    def root(
        self, place: str, tree: str, base: str | None, size_bytes: int, found: list[Difference]
    ) -> CodeRoot:
        """All that is known."""
        repository, selection = self._repository, self._selection
        is_head = base == repository.commit
        changes = found if is_head else differences(self._scratch, repository.head_tree, tree)
        hidden = self._converted | (set(selection.excluded) - self._changed)  # as they are in the commit
        visible = [one for one in changes if one.name not in hidden]
        patch = None
        if repository.head_tree:
            patch = readable_patch(self._scratch, repository.head_tree, tree, visible)
        return CodeRoot(
            path=shown(str(repository.top)),
            place=place,
            tree=tree,
            kind="git",
            commit=repository.commit,
            branch=repository.branch,
            base=base,
            remotes=repository.remotes,
            is_dirty=any(one.is_file or one.old or one.mode == MODULE for one in visible),
            pack_bytes=size_bytes,
            excluded=tuple(selection.excluded[name] for name in sorted(selection.excluded)),
            warnings=tuple(selection.warnings),
            patch=patch,
            is_cut=selection.is_cut,
        )

    def modules(self) -> tuple[str, ...]:
        """The submodules that are checked out, by their place in the tree."""
        names = _modules(self._index.entries.items())
        return tuple(os.fsdecode(name) for name in names if self._is_checked_out(name))

    def _is_checked_out(self, name: bytes) -> bool:
        return (self._repository.top / os.fsdecode(name) / ".git").exists()


def _modules(entries: Iterable[tuple[bytes, Entry]]) -> list[bytes]:
    return [name for name, one in entries if one.mode == MODULE]
