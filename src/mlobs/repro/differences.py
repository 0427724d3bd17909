"""How two environments differ, in words, the most telling difference first.

First what changes numbers with the same packages (kernels, threads, switches), then Python, then
packages, then what seldom matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from mlobs.repro.environment import EnvironmentRecord
from mlobs.repro.gpus import Gpus
from mlobs.repro.libraries import Library
from mlobs.repro.native import NativeFacts
from mlobs.repro.packages import Package
from mlobs.repro.variables import KERNEL_VARIABLES

_NAMES = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS", "openmp": "OpenMP", "flexiblas": "FlexiBLAS"}
_OF_KERNELS = ("OPENBLAS_", "MKL_", "OMP_", "BLIS_", "KMP_", "NPY_", "CUBLAS_", "CUDNN_", "TF_", "XLA_")
_SELDOM = frozenset({"build", "compiler", "executable", "prefix", "base_prefix", "is_virtual"})


class Surroundings(msgspec.Struct, frozen=True):
    """What is known of the environment of one run; a part that was not captured is None."""

    environment: EnvironmentRecord | None = None
    native: NativeFacts | None = None
    gpus: Gpus | None = None


def diff_environments(a: Surroundings, b: Surroundings) -> list[str]:
    """Say what is other in `b` than in `a`, a line each. A part that only one of them has is not compared.

    Where a wheel was installed, on what host and by what installer is no difference.
    """
    lines: list[str] = []
    if a.native and b.native:
        lines += _kernels(a.native.libraries, b.native.libraries)
        lines += _threads(a.native.libraries, b.native.libraries)
        lines += _variables(a.native.environment, b.native.environment, is_of_kernels)
        lines += _frameworks(a.native.frameworks, b.native.frameworks)
    if a.gpus and b.gpus:
        lines += _gpus(a.gpus, b.gpus)
    if a.environment and b.environment:
        lines += _python(a.environment.python, b.environment.python)
        lines += _packages(a.environment.packages, b.environment.packages)
        lines += _conda(a.environment, b.environment)
    if a.native and b.native:
        lines += _cpu(a.native.cpu, b.native.cpu)
        lines += _variables(a.native.environment, b.native.environment, lambda name: not is_of_kernels(name))
    if a.environment and b.environment:
        lines += _changes("platform", a.environment.platform, b.environment.platform, leave_out={"cpus"})
        lines += _changes("container", a.environment.container, b.environment.container, leave_out={"id"})
    return lines


def is_of_kernels(name: str) -> bool:
    """Tell whether a variable chooses kernels or threads of a numerical library."""
    return name in KERNEL_VARIABLES or name.startswith(_OF_KERNELS)


def _kernels(a: Iterable[Library], b: Iterable[Library]) -> Iterator[str]:
    before, after = (_per_api(libraries, "architecture") for libraries in (a, b))
    for api in sorted(before.keys() & after.keys()):
        if before[api] != after[api]:
            yield f"{_NAMES.get(api, api)} kernel {before[api]} -> {after[api]}"
    for api in sorted(before.keys() ^ after.keys()):
        how = "no more loaded" if api in before else "loaded, was not"
        yield f"{_NAMES.get(api, api)} {how}"


def _threads(a: Iterable[Library], b: Iterable[Library]) -> Iterator[str]:
    groups: dict[str, Callable[[Library], bool]] = {
        "BLAS": lambda one: one.api != "openmp",
        "OpenMP": lambda one: one.api == "openmp",
    }
    for group, belongs in groups.items():
        before, after = (_joined(one.threads for one in libraries if belongs(one)) for libraries in (a, b))
        if before and after and before != after:
            yield f"{before} -> {after} {group} threads"


def _per_api(libraries: Iterable[Library], field: str) -> dict[str, str]:
    values: dict[str, list[Any]] = {}
    for one in libraries:
        values.setdefault(one.api, []).append(getattr(one, field))
    return {api: _joined(found) or "unknown" for api, found in values.items()}


def _joined(values: Iterable[Any]) -> str:
    return " and ".join(sorted({str(value) for value in values if value is not None}))


def _variables(a: Mapping[str, str], b: Mapping[str, str], wanted: Callable[[str], bool]) -> Iterator[str]:
    for name in sorted(filter(wanted, a.keys() | b.keys())):
        if a.get(name) != b.get(name):
            yield f"{name} {_shown(a.get(name))} -> {_shown(b.get(name))}"


def _frameworks(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name in sorted(a.keys() & b.keys()):
        yield from _changes(name, a[name], b[name], leave_out={"version"})


def _gpus(a: Gpus, b: Gpus) -> Iterator[str]:
    before, after = ([one.name for one in gpus.gpus] for gpus in (a, b))
    if before != after:
        yield f"GPUs {', '.join(before) or 'none'} -> {', '.join(after) or 'none'}"
    if a.driver != b.driver:
        yield f"NVIDIA driver {a.driver or 'none'} -> {b.driver or 'none'}"


def _python(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    before, after = (f"{python.get('implementation')} {python.get('version')}" for python in (a, b))
    if before != after:
        yield f"Python {before} -> {after}"
    yield from _changes("python", a, b, leave_out={"implementation", "version", *_SELDOM})


def _packages(a: Iterable[Package], b: Iterable[Package]) -> list[str]:
    before, after = ({one.name: one for one in packages if not one.is_editable} for packages in (a, b))
    shared = sorted(before.keys() & after.keys())
    pairs = [(before[name], after[name]) for name in shared]
    return [
        *(f"package {x.name} {x.version} -> {y.version}" for x, y in pairs if x.version != y.version),
        *(f"package {x.name} {x.version}: same version, other files" for x, y in pairs if _other_files(x, y)),
        *(
            f"package {name} {before[name].version} -> absent"
            for name in sorted(before.keys() - after.keys())
        ),
        *(f"package {name} absent -> {after[name].version}" for name in sorted(after.keys() - before.keys())),
    ]


def _other_files(x: Package, y: Package) -> bool:
    known = x.record_digest is not None and y.record_digest is not None
    return known and x.version == y.version and x.record_digest != y.record_digest


def _conda(a: EnvironmentRecord, b: EnvironmentRecord) -> Iterator[str]:
    if a.conda is None or b.conda is None:
        return
    before, after = (
        {one.name: f"{one.version} ({one.build})" for one in packages} for packages in (a.conda, b.conda)
    )
    yield from _changes("conda package", before, after)


def _cpu(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    yield from _changes("CPU", a, b, leave_out={"isa"})
    before, after = set(a.get("isa", ())), set(b.get("isa", ()))
    if before and after and before != after:
        lost, gained = sorted(before - after), sorted(after - before)
        yield f"CPU extensions: without {', '.join(lost) or 'none'}, with {', '.join(gained) or 'none'} more"


def _changes(
    what: str, a: Mapping[str, Any], b: Mapping[str, Any], *, leave_out: Iterable[str] = ()
) -> Iterator[str]:
    for name in sorted((a.keys() | b.keys()) - set(leave_out)):
        if a.get(name) != b.get(name):
            yield f"{what} {name} {_shown(a.get(name))} -> {_shown(b.get(name))}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "unset" if value is None else str(value)
