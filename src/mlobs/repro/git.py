"""Git's plumbing, run so that nothing of the user's is written, asked for, or waited for.

A call reads no configuration but what is named here, has no terminal and no prompt, takes no optional
lock, and ends after `TIMEOUT_S`. Work on a tree happens in a git folder of our own (`ScratchGit`), which
borrows the objects of the user's repository: with it no filter, hook or file system monitor that a
configuration names is ever started, and no line end is converted - bytes are what they are on the disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlobs.errors import UsageError
from mlobs.secrets import masked

TIMEOUT_S = 30.0  # of one call; the slowest that was measured, a whole pack of 100 MB, takes 4 s
_SETTINGS = {
    "core.autocrlf": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.quotePath": "off",
    "core.safecrlf": "false",
    "core.untrackedCache": "false",
    "color.ui": "never",
    "gc.auto": "0",
    "index.version": "2",
    "safe.directory": "*",
}
_NO_CONVERSION = "* -text -eol -crlf -filter -ident -working-tree-encoding\n"
_SAID = 300  # characters of what git said that an error repeats


class GitFailed(UsageError):
    """Git is not installed, refused, or did not end in time; the message says which."""


def has_git() -> bool:
    """Tell whether the `git` command is there."""
    return shutil.which("git") is not None


def git(
    arguments: Sequence[str],
    *,
    cwd: Path,
    content: bytes | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
    fine: tuple[int, ...] = (0,),
) -> bytes:
    """Run one git command and return what it wrote.

    `environment` is what the command gets beside the process's own, of which what starts with `GIT_` is
    left out, but for where the configuration lies and how a remote is reached. `fine` are the exit codes
    that are no failure.

    Raises:
        GitFailed: there is no git, it failed, or it ran longer than `timeout_s`.
    """
    program = shutil.which("git")
    if program is None:
        raise GitFailed("the command `git` was not found - install git, or put it on PATH")
    try:
        process = subprocess.Popen(  # noqa: S603 - git itself, arguments without a shell
            [program, *arguments],
            cwd=cwd,
            env={**_clean_environment(), **(environment or {})},
            stdin=subprocess.DEVNULL if content is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=os.name == "posix",  # no terminal to ask on, and a group that ends as one
        )
    except OSError as error:
        raise GitFailed(f"git could not be started in {cwd}: {error}") from error
    try:
        out, err = process.communicate(content, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        _end(process)
        raise GitFailed(f"git {_verb(arguments)} did not end within {timeout_s:g} s in {cwd}") from error
    except BaseException:  # Ctrl-C does not reach a group of its own
        _end(process)
        raise
    if process.returncode not in fine:
        said = masked(" ".join(err.decode("utf-8", "replace").split()))[:_SAID]
        raise GitFailed(f"git {_verb(arguments)} failed in {cwd} with {process.returncode}: {said}")
    return out


def user_git(
    arguments: Sequence[str], *, cwd: Path, content: bytes | None = None, fine: tuple[int, ...] = (0,)
) -> bytes:
    """Run a command that only reads the user's repository, under our settings."""
    return git([*_settings(), *arguments], cwd=cwd, content=content, environment=_OURS, fine=fine)


@dataclass(frozen=True)
class ScratchGit:
    """A git folder of our own, beside a working tree that stays where it is.

    Make it with `scratch_git`. `settings` are of the user's configuration what says how a tree is read.
    """

    folder: Path
    tree: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, content: bytes | None = None, fine: tuple[int, ...] = (0,)) -> bytes:
        """Run a command on the working tree with our own index, and the objects of others to read."""
        return self._run(arguments, content, fine, {})

    def write(self, *arguments: str, content: bytes | None = None) -> bytes:
        """Run a command that makes objects.

        It does not see those of others: one that is there already would get a new time, in their store.
        """
        return self._run(arguments, content, (0,), {"GIT_OBJECT_DIRECTORY": str(self.folder / "made")})

    def _run(
        self, arguments: Sequence[str], content: bytes | None, fine: tuple[int, ...], more: Mapping[str, str]
    ) -> bytes:
        places = {"GIT_DIR": str(self.folder), "GIT_WORK_TREE": str(self.tree), **more}
        return git(
            [*_settings(self.settings), *arguments],
            cwd=self.tree,
            content=content,
            environment={**_OURS, **places},
            fine=fine,
        )


def scratch_git(
    folder: Path, tree: Path, *, objects: Sequence[Path] = (), settings: Mapping[str, str] | None = None
) -> ScratchGit:
    """Make an empty git folder that can read the objects of others, and writes its own alone."""
    for part in ("objects/info", "objects/pack", "made", "refs/heads", "info"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "HEAD").write_text("ref: refs/heads/none\n", encoding="ascii")
    (folder / "config").write_text(
        "[core]\n\trepositoryformatversion = 0\n\tbare = false\n", encoding="ascii"
    )
    (folder / "info" / "attributes").write_text(_NO_CONVERSION, encoding="ascii")
    borrowed = b"".join(os.fsencode(path) + b"\n" for path in (folder / "made", *objects))
    (folder / "objects" / "info" / "alternates").write_bytes(borrowed)
    return ScratchGit(folder, tree, settings or {})


_KEPT = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_SSH", "GIT_SSL_", "GIT_PROXY_")
_QUIET = {
    "GCM_INTERACTIVE": "never",  # Git Credential Manager opens windows
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_OURS = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM": "1",
}


def _settings(more: Mapping[str, str] | None = None) -> list[str]:
    return [
        part for name, value in {**_SETTINGS, **(more or {})}.items() for part in ("-c", f"{name}={value}")
    ]


def _clean_environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if (not name.startswith("GIT_") or name.startswith(_KEPT)) and name != "SSH_ASKPASS"
    }
    return {**kept, **_QUIET}


def _verb(arguments: Sequence[str]) -> str:
    """The command's name: what follows the settings."""
    words = iter(arguments)
    for word in words:
        if word != "-c":
            return word
        next(words, None)
    return ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End git and what it started: a child that kept the pipe open would be waited for without end."""
    if os.name == "posix":
        with contextlib.suppress(OSError):  # it has just ended
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()
