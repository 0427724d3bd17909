"""What the interpreter of a run is made of: Python, platform, packages, container, lock files."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mlobs.repro.packages import Package, installed, pinned, without_secrets
from mlobs.secrets import REDACTED, masked

_LOCK_FILES = (
    "uv.lock", "pylock.toml", "poetry.lock", "pdm.lock", "Pipfile.lock", "pixi.lock", "conda-lock.yml",
    "environment.yml", "environment.yaml",
)  # fmt: skip
_REQUIREMENTS = "requirements*.txt"
_KEPT_BYTES = 1 << 20  # of one lock file's text; a larger one is known by its digest alone
_CONTAINER_ID = re.compile(r"\b[0-9a-f]{64}\b")
_CONDA_TOKEN = re.compile(r"(?<=/t/)[^/]+(?=/)")  # conda writes a channel's token into its path
_URL = re.compile(r"[a-z][a-z+]*://[^\s\"'<>,;]+")


class CondaPackage(msgspec.Struct, frozen=True):
    """One package of a conda environment; `channel` is where it came from."""

    name: str
    version: str
    build: str
    channel: str = ""
    sha256: str = ""


class LockFile(msgspec.Struct, frozen=True):
    """One lock file. `digest` is BLAKE3 (hexadecimal) of its bytes; `text` is without secrets.

    `text` is None for a file over 1 MiB.
    """

    digest: str
    text: str | None = None


class EnvironmentRecord(msgspec.Struct, frozen=True):
    """An environment, as data: `msgspec.to_builtins` and `msgspec.convert` make facts of it and back.

    `digest` is BLAKE3 (hexadecimal) over Python's implementation and full version and the sorted
    `name==version==record digest` of all packages that are not editable. Equal digests: the same
    wheels on the same Python, on whatever machine.
    """

    python: dict[str, Any]
    platform: dict[str, Any]
    packages: tuple[Package, ...]
    digest: str
    conda: tuple[CondaPackage, ...] | None = None
    container: dict[str, str] = {}
    lock_files: dict[str, LockFile] = {}

    def to_facts(self) -> dict[str, Any]:
        """The record as plain values."""
        facts: dict[str, Any] = msgspec.to_builtins(self)
        return facts

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> EnvironmentRecord:
        """The record that `to_facts` made plain values of; what a newer mlobs added is ignored."""
        return msgspec.convert(facts, cls)


def capture_environment(
    sys_path: Sequence[str] | None = None, *, folder: Path | None = None
) -> EnvironmentRecord:
    """Record this interpreter's environment; starts no process and imports no package.

    Args:
        sys_path: where packages are looked for; default: `sys.path`.
        folder: where lock files are looked for, and above it up to the folder of the repository;
            default: the working directory.
    """
    packages = installed(sys_path)
    python = _python()
    return EnvironmentRecord(
        python=python,
        platform=_platform(),
        packages=packages,
        digest=environment_digest(python["implementation"], python["version"], packages),
        conda=conda_packages(Path(sys.prefix)),
        container=_container(os.environ),
        lock_files=lock_files(folder or Path.cwd()),
    )


def environment_digest(implementation: str, version: str, packages: Iterable[Package]) -> str:
    """Digest what decides which code runs: BLAKE3, 64 hexadecimal digits, of sorted lines in UTF-8."""
    from blake3 import blake3

    lines = [f"python {implementation} {version}", *pinned(packages)]
    return blake3("\n".join(lines).encode()).hexdigest()


def lock_files(folder: Path) -> dict[str, LockFile]:
    """The lock files in a folder and above it, up to a repository's; of one name the nearest counts."""
    found: dict[str, LockFile] = {}
    for place in _upwards(folder.absolute()):
        for path in [*(place / name for name in _LOCK_FILES), *sorted(place.glob(_REQUIREMENTS))]:
            if path.name not in found and path.is_file():
                try:
                    found[path.name] = _lock_file(path)
                except OSError:  # not ours to read: then it is no part of the record
                    continue
    return found


def conda_packages(prefix: Path) -> tuple[CondaPackage, ...] | None:
    """The packages of the conda environment at `prefix`, by its `conda-meta`; None if it is none."""
    if not (prefix / "conda-meta").is_dir():
        return None
    return tuple(_conda_package(path) for path in sorted((prefix / "conda-meta").glob("*.json")))


def _conda_package(path: Path) -> CondaPackage:
    facts = json.loads(path.read_bytes())
    name, version, build, sha256 = (
        str(facts.get(field, "")) for field in ("name", "version", "build", "sha256")
    )
    channel = _CONDA_TOKEN.sub(REDACTED, without_secrets(str(facts.get("channel", ""))))
    return CondaPackage(name, version, build, channel, sha256)


def _lock_file(path: Path) -> LockFile:
    from blake3 import blake3

    content = path.read_bytes()
    text = content.decode("utf-8", "replace") if len(content) <= _KEPT_BYTES else None
    public = None if text is None else masked(_URL.sub(lambda url: without_secrets(url[0]), text))
    return LockFile(blake3(content).hexdigest(), public)


def _upwards(folder: Path) -> Iterator[Path]:
    """The folder, and those above it up to the root of its repository; without one, the folder alone."""
    places = [folder, *folder.parents]
    root = next((number for number, place in enumerate(places) if (place / ".git").exists()), 0)
    yield from places[: root + 1]


def _python() -> dict[str, Any]:
    build, built_at = platform.python_build()
    return {
        "implementation": sys.implementation.name,
        "version": platform.python_version(),
        "build": f"{build} {built_at}".strip(),
        "compiler": platform.python_compiler(),
        "executable": sys.executable,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "is_virtual": sys.prefix != sys.base_prefix,
        "optimize": sys.flags.optimize,
    }


def _platform() -> dict[str, Any]:
    libc = " ".join(filter(None, platform.libc_ver())) if sys.platform == "linux" else ""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "libc": libc,
        "cpus": os.cpu_count() or 0,
        "byte_order": sys.byteorder,
    }


def _container(env: Mapping[str, str]) -> dict[str, str]:
    """What says that this is a container. A process cannot see its own image's digest: it must be told."""
    found = {}
    if Path("/.dockerenv").exists():
        found["kind"] = "docker"
    elif Path("/run/.containerenv").exists():
        found["kind"] = "podman"
    elif "KUBERNETES_SERVICE_HOST" in env:
        found["kind"] = "kubernetes"
    if found and (match := _CONTAINER_ID.search(_read(Path("/proc/self/cgroup")))):
        found["id"] = match[0]
    if env.get("MLOBS_IMAGE_DIGEST"):
        found["image_digest"] = masked(env["MLOBS_IMAGE_DIGEST"])
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not this platform's
        return ""
