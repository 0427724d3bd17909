"""A virtual environment made from a record: the same Python, the same wheels, and what could not be had."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from mlobs.errors import UsageError
from mlobs.repro.environment import EnvironmentRecord
from mlobs.repro.installers import Installer, Pip, Uv, interpreter_facts
from mlobs.repro.packages import Package, installed

Tool: TypeAlias = Literal["auto", "uv", "pip"]

_OWN = ("pip", "setuptools", "wheel")  # which `python -m venv` brings: exchanged after all others


class Recreated(NamedTuple):
    """An environment that was made. Each entry of `missing` and `differing` names a package and says why.

    `differing`: another version of Python, or the same version of a package with other files.
    """

    python: Path
    missing: list[str]
    differing: list[str]
    seconds: float


def recreate(record: EnvironmentRecord, dest: Path, *, tool: Tool = "auto", log: Path) -> Recreated:
    """Make a virtual environment in `dest` with the packages of the record, at their versions.

    Dependencies are not resolved: the record has them. Editable and other local packages are left out,
    as is what no index has, and listed. Of a conda environment the Python packages alone are
    made again, from the index. The environment that this runs in is not touched. Indexes are those of
    pip's or uv's own configuration; `log` receives what the tools say. With nothing missing and nothing
    differing, the new environment has the record's digest.

    Raises:
        UsageError: `dest` is not empty, or there is no such tool, or no Python of that version.
    """
    began = time.perf_counter()
    if dest.exists() and any(dest.iterdir()):
        raise UsageError(f"{dest} is not empty - name a folder that does not exist yet")
    installer = _installer(tool, os.environ, log)
    python = installer.make(dest, record.python["implementation"], record.python["version"])
    missing = _install(installer, python, record.packages)
    facts = interpreter_facts(python)
    recorded = {one.name for one in record.packages}
    brought = [one.name for one in installed(facts.sys_path) if one.name not in recorded]
    if brought:  # pip, where the original was made by uv
        installer.remove(python, brought)
    differing = _compare(
        [one for one in record.packages if one.name not in missing], installed(facts.sys_path)
    )
    if facts.version != record.python["version"]:
        differing.insert(0, f"python {record.python['version']} -> {facts.version}")
    if record.conda is not None:
        missing["conda"] = f"{len(record.conda)} conda packages: those of Python come from the index instead"
    return Recreated(python, list(missing.values()), differing, time.perf_counter() - began)


def _installer(tool: Tool, env: Mapping[str, str], log: Path) -> Installer:
    uv = shutil.which("uv", path=env.get("PATH"))
    if tool == "pip" or (tool == "auto" and uv is None):
        return Pip(env, log)
    if uv is None:
        raise UsageError("uv is not on PATH - type: pip install uv, or use the tool 'pip'")
    return Uv(uv, env, log)


def _install(installer: Installer, python: Path, packages: Iterable[Package]) -> dict[str, str]:
    """Install what can be, and return for each package that cannot, by its name, what and why."""
    missing: dict[str, str] = {}
    wanted: list[Package] = []
    last: list[Package] = []
    for one in packages:
        if one.is_editable or (one.source or "").startswith("file:"):
            missing[one.name] = f"{one.name} {one.version}: it was installed from {one.source or one.root}"
        else:
            (last if one.name in _OWN else wanted).append(one)
    refused = [*_in_halves(installer, python, wanted), *_in_halves(installer, python, last)]
    reason = f"{installer.name} cannot install it, see {installer.log}"
    return missing | {one.name: f"{one.name} {one.version}: {reason}{_index_hint(one)}" for one in refused}


def _index_hint(package: Package) -> str:
    """What to type for a build such as `2.13.0+cpu`: such versions are never on PyPI."""
    if "+" not in package.version:
        return ""
    url = f"https://download.pytorch.org/whl/{package.version.partition('+')[2]}"
    where = url if package.name.startswith("torch") else "URL"
    return f" - PyPI has no such build, set UV_EXTRA_INDEX_URL or PIP_EXTRA_INDEX_URL={where}"


def requirement(package: Package) -> str:
    """The package as a line of a requirements file: pinned, or with the URL it was installed from."""
    return f"{package.name} @ {package.source}" if package.source else f"{package.name}=={package.version}"


def _in_halves(installer: Installer, python: Path, packages: list[Package]) -> list[Package]:
    """Install all at once; if that fails, each half, so that one bad package costs log2(n) attempts."""
    if not packages or installer.install(python, [requirement(one) for one in packages]):
        return []
    if len(packages) == 1:
        return packages
    middle = len(packages) // 2
    halves = packages[:middle], packages[middle:]
    return [one for half in halves for one in _in_halves(installer, python, half)]


def _compare(wanted: Iterable[Package], found: Iterable[Package]) -> list[str]:
    have = {one.name: one for one in found}
    reasons = []
    for one in wanted:
        other = have.get(one.name)
        if other is None or other.version != one.version:
            reasons.append(f"{one.name} {one.version} -> {other.version if other else 'absent'}")
        elif one.record_digest and other.record_digest != one.record_digest:
            reasons.append(f"{one.name} {one.version}: same version, other files")
    return reasons
