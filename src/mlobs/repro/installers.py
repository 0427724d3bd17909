"""uv and pip, as far as making an environment goes; both with an environment of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from mlobs.errors import UsageError
from mlobs.secrets import masked

_USERS_OWN = re.compile(
    r"^(VIRTUAL_ENV|CONDA_PREFIX|PYTHON(PATH|HOME)|__PYVENV_LAUNCHER__|PIP_REQUIRE_VIRTUALENV"
    r"|PIP_(USER|TARGET|PREFIX|ROOT)|UV_(PROJECT_ENVIRONMENT|SYSTEM_PYTHON|PYTHON))$"
)
_ASK = (
    "import json, platform, sys; "
    "print(json.dumps([sys.implementation.name, platform.python_version(), sys.path]))"
)
_ASK_S = 60.0  # a cold start of Python from a slow disk takes seconds


class Interpreter(NamedTuple):
    """What an interpreter says of itself."""

    implementation: str
    version: str
    sys_path: list[str]


class Installer(Protocol):
    """A tool that makes environments."""

    name: str
    log: Path

    def make(self, dest: Path, implementation: str, version: str) -> Path:
        """Make an empty environment; return its Python, of that version or another patch of it."""
        ...

    def install(self, python: Path, requirements: Sequence[str]) -> bool:
        """Install all of them without their dependencies, or return False."""
        ...

    def remove(self, python: Path, names: Sequence[str]) -> bool:
        """Remove packages."""
        ...


class Uv:
    """uv, which downloads a Python if none is there. Files are copied: its hard links share every edit."""

    name = "uv"

    def __init__(self, uv: str, env: Mapping[str, str], log: Path) -> None:
        self._uv, self._env, self.log = uv, _foreign(env), log

    def make(self, dest: Path, implementation: str, version: str) -> Path:
        """Make it with a Python that uv finds or downloads."""
        for wanted in (version, _minor(version)):
            if self._run("venv", "--python", f"{implementation}@{wanted}", str(dest)):
                return python_of(dest)
        raise UsageError(
            f"uv finds no {implementation} {version}, see {self.log} - type: uv python install {version}"
        )

    def install(self, python: Path, requirements: Sequence[str]) -> bool:
        """Install all or none."""
        with _requirements(requirements) as file:
            return self._run(
                "pip", "install", "--python", str(python), "--no-deps", "--link-mode=copy", "-r", str(file)
            )

    def remove(self, python: Path, names: Sequence[str]) -> bool:
        """Remove packages."""
        return self._run("pip", "uninstall", "--python", str(python), *names)

    def _run(self, *arguments: str) -> bool:
        return _logged([self._uv, *arguments], self._env, self.log)


class Pip:
    """venv and the pip that it brings, with an interpreter that is there already."""

    name = "pip"

    def __init__(self, env: Mapping[str, str], log: Path) -> None:
        self._env, self.log = {**_foreign(env), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}, log

    def make(self, dest: Path, implementation: str, version: str) -> Path:
        """Make it with this interpreter, or one on PATH."""
        found = find_interpreter(implementation, version, self._env)
        if found is None:
            raise UsageError(
                f"no {implementation} {_minor(version)} is on PATH - install it, or uv, which downloads it"
            )
        if not _logged([found, "-m", "venv", str(dest)], self._env, self.log):
            raise UsageError(f"{found} -m venv {dest} fails, see {self.log}")
        return python_of(dest)

    def install(self, python: Path, requirements: Sequence[str]) -> bool:
        """Install them; of a list that fails, some may be there already."""
        with _requirements(requirements) as file:
            command = [str(python), "-m", "pip", "install", "--no-input", "--no-deps", "-r", str(file)]
            return _logged(command, self._env, self.log)

    def remove(self, python: Path, names: Sequence[str]) -> bool:
        """Remove packages, which may be pip itself."""
        command = [str(python), "-m", "pip", "uninstall", "--yes", "--no-input", *names]
        return _logged(command, self._env, self.log)


def find_interpreter(implementation: str, version: str, env: Mapping[str, str]) -> str | None:
    """An interpreter of exactly this version, else of its minor version: this one, or one on PATH."""
    short = "python" if implementation == "cpython" else implementation
    names = (f"{short}{_minor(version)}", f"{short}3", short)
    places = [sys.executable, *(shutil.which(name, path=env.get("PATH")) for name in names)]
    fitting = []
    for place in filter(None, places):
        facts = _facts_or_none(place)
        if facts and facts.implementation == implementation and _minor(facts.version) == _minor(version):
            fitting.append((facts.version != version, place))
    return min(fitting, key=lambda one: one[0])[1] if fitting else None


def interpreter_facts(python: Path | str) -> Interpreter:
    """Ask an interpreter for its version and path.

    Raises:
        UsageError: it does not start.
    """
    try:
        done = subprocess.run(  # noqa: S603 - an interpreter that was found or made here
            [str(python), "-I", "-c", _ASK], capture_output=True, check=True, timeout=_ASK_S, text=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(f"{python} does not start: {error}") from error
    return Interpreter(*json.loads(done.stdout))


def python_of(environment: Path) -> Path:
    """The Python of a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _facts_or_none(python: str) -> Interpreter | None:
    try:
        return interpreter_facts(python)
    except UsageError:  # pyenv's shim of a version that is not chosen: not an interpreter to use
        return None


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


@contextmanager
def _requirements(lines: Sequence[str]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mlobs-") as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        yield file


def _foreign(env: Mapping[str, str]) -> dict[str, str]:
    """The variables without those that would lead a tool into the user's own environment."""
    return {name: value for name, value in env.items() if not _USERS_OWN.match(name)}


def _logged(command: Sequence[str], env: Mapping[str, str], log: Path) -> bool:
    """Run a command to its end; add what it says to the log, without secrets."""
    done = subprocess.run(  # noqa: S603 - uv or an interpreter, with arguments of ours
        command, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False,
    )  # fmt: skip
    said = done.stdout.decode("utf-8", "replace")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(masked(f"$ {' '.join(command)}\n{said}-> {done.returncode}\n"))
    return done.returncode == 0
