"""A repository of the user's, only read: where it is, what is checked out, what others have of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from mlobs.repro.git import GitFailed, git, user_git
from mlobs.repro.urls import public_url

_TREE_SETTINGS = (
    "core.filemode",
    "core.symlinks",
    "core.ignorecase",
    "core.precomposeunicode",
    "core.excludesfile",
)
_OBJECT_FORMAT = "sha1"


@dataclass(frozen=True)
class Repository:
    """What a working tree belongs to. `head_tree` is the tree of `commit`; both None before the first one."""

    top: Path
    git_dir: Path
    common_dir: Path
    commit: str | None
    head_tree: str | None
    branch: str | None
    config: dict[str, list[str]] = field(default_factory=dict)

    @property
    def objects(self) -> Path:
        """Where its objects lie."""
        return self.common_dir / "objects"

    @property
    def remotes(self) -> dict[str, str]:
        """Its remotes by name, without secrets."""
        urls = {name: values[0] for name, values in self.config.items() if _is_remote(name)}
        return {
            name[len("remote.") : -len(".url")]: public_url(self._full(url)) for name, url in urls.items()
        }

    def _full(self, url: str) -> str:
        """A folder that is named from here by its full path: the record is read elsewhere."""
        return os.path.normpath(self.top / url) if url.startswith(".") else url

    @property
    def tree_settings(self) -> dict[str, str]:
        """What of the user's configuration says how the working tree is read: modes, links, ignored files."""
        found = {name: self.config[name][-1] for name in _TREE_SETTINGS if name in self.config}
        if "core.excludesfile" in found:
            found["core.excludesfile"] = os.path.expanduser(found["core.excludesfile"])  # noqa: PTH111 - also ~name
        return found

    def said(self, name: str) -> str:
        """The last value of a setting, in lower case; empty if there is none."""
        return self.config.get(name, [""])[-1].lower()


def find_repository(folder: Path) -> Repository | None:
    """Return the repository whose working tree a folder is in, or None.

    Raises:
        GitFailed: there is one that git cannot read, or its object ids are not SHA-1.
    """
    if not any((one / ".git").exists() for one in (folder, *folder.parents)):
        return None
    asked = ("--show-toplevel", "--absolute-git-dir", "--git-common-dir", "--show-object-format")
    top, git_dir, common, object_format = _lines(user_git(["rev-parse", *asked], cwd=folder))
    if object_format != _OBJECT_FORMAT:
        raise GitFailed(f"the repository {top} names objects by {object_format}, expected {_OBJECT_FORMAT}")
    place = Path(top)
    own = _own(git_dir)
    head = git([*own, "rev-parse", "-q", "--verify", "HEAD^{commit}"], cwd=place, fine=(0, 1, 128))
    commit = head.decode("ascii").strip() or None
    tree = git([*own, "rev-parse", "HEAD^{tree}"], cwd=place).decode("ascii").strip() if commit else None
    branch = git([*own, "symbolic-ref", "-q", "--short", "HEAD"], cwd=place, fine=(0, 1, 128))
    return Repository(
        top=place,
        git_dir=Path(git_dir),
        common_dir=Path(os.path.normpath(folder / common)),
        commit=commit,
        head_tree=tree,
        branch=branch.decode("utf-8", "backslashreplace").strip() or None,
        config=_config(own, place),
    )


def pushed_base(repository: Repository) -> str | None:
    """Return the newest commit that a remote has and the checked out one stands on, or None."""
    if repository.commit is None:
        return None
    asked = ["rev-list", "--boundary", "HEAD", "--not", "--remotes"]
    lines = _lines(git([*_own(str(repository.git_dir)), *asked], cwd=repository.top))
    if not any(line[:1] not in ("-", "") for line in lines):
        return repository.commit
    return next((line[1:] for line in lines if line.startswith("-")), None)


def _own(git_dir: str) -> list[str]:
    """Named explicitly, a git folder of another owner is read too; its configuration starts nothing here."""
    return ["-c", "core.fsmonitor=false", "--git-dir", git_dir]


def _config(own: list[str], place: Path) -> dict[str, list[str]]:
    """The user's settings, read but not obeyed."""
    found: dict[str, list[str]] = {}
    for entry in git([*own, "config", "--list", "-z"], cwd=place).split(b"\0"):
        name, _, value = entry.partition(b"\n")
        if name:
            found.setdefault(os.fsdecode(name), []).append(os.fsdecode(value))
    return found


def _is_remote(name: str) -> bool:
    return name.startswith("remote.") and name.endswith(".url")


def _lines(out: bytes) -> list[str]:
    return os.fsdecode(out).splitlines()
