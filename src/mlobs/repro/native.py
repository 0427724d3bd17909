"""What the numbers of this process depend on below Python: CPU, BLAS kernels, threads, GPU, switches.

With the same packages, another kernel of OpenBLAS or another number of threads changes the last bits of
a model. Libraries load late, so this is read when a run ends, in its own process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from mlobs.repro.cpu import cpu_facts
from mlobs.repro.frameworks import framework_facts
from mlobs.repro.gpus import Gpus
from mlobs.repro.libraries import Library, loaded_libraries
from mlobs.repro.variables import KERNEL_VARIABLES, recorded_environment

MACHINE_SCHEME = "machine1"
_TORCH_KEYS = ("threads", "cpu_capability", "cuda", "hip", "cudnn", "gpus")


class NativeFacts(msgspec.Struct, frozen=True):
    """The native facts of one process.

    `frameworks` has each imported library's own facts by its name; `environment` the recorded variables;
    `missing` the reason of each fact that could not be had.
    """

    cpu: dict[str, Any]
    libraries: tuple[Library, ...] = ()
    frameworks: dict[str, dict[str, Any]] = {}
    environment: dict[str, str] = {}
    missing: dict[str, str] = {}

    def to_facts(self) -> dict[str, Any]:
        """The facts as plain values."""
        facts: dict[str, Any] = msgspec.to_builtins(self)
        return facts

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> NativeFacts:
        """The facts that `to_facts` made plain values of; what a newer mlobs added is ignored."""
        return msgspec.convert(facts, cls)


def capture_native(modules: Mapping[str, Any] = sys.modules) -> NativeFacts:
    """Read the native facts of this process as they are now. Raises nothing, and imports no framework."""
    missing: dict[str, str] = {}
    cpu: dict[str, Any] = {}
    libraries: tuple[Library, ...] = ()
    frameworks: dict[str, dict[str, Any]] = {}
    with _noting("cpu", missing):
        cpu = cpu_facts()
        if "isa" not in cpu:
            missing["cpu.isa"] = f"{sys.platform} does not say which extensions its CPU has"
    with _noting("libraries", missing):
        libraries, reason = loaded_libraries()
        missing.update({"libraries": reason} if reason else {})
    with _noting("frameworks", missing):
        frameworks, refused = framework_facts(dict(modules))
        missing.update(refused)
    return NativeFacts(cpu, libraries, frameworks, recorded_environment(os.environ), missing)


@contextmanager
def _noting(fact: str, missing: dict[str, str]) -> Iterator[None]:
    """Note why a fact cannot be had: this runs while a program ends, and must not change its end."""
    try:
        yield
    except Exception as error:
        missing[fact] = f"{type(error).__name__}: {error}"


def machine_key(facts: NativeFacts | Mapping[str, Any], gpus: Gpus | None = None) -> str:
    """Return `machine1:` and 64 hexadecimal digits: equal where the same recipe should give equal bits.

    BLAKE3 over canonical JSON of: CPU architecture, vendor and extensions; kernel and threads of each
    BLAS and OpenMP library; torch's threads, CPU capability, CUDA, cuDNN and GPUs; the variables that
    choose kernels; the models of the GPUs and the driver that `capture_gpus` found, if given. Not the
    CPU's model name, which differs between hosts that compute alike, unless nothing else is known of it.
    """
    from blake3 import blake3

    native = facts if isinstance(facts, NativeFacts) else NativeFacts.from_facts(facts)
    content = msgspec.json.encode(_machine(native, gpus), order="deterministic")
    return f"{MACHINE_SCHEME}:{blake3(content).hexdigest()}"


def _machine(native: NativeFacts, gpus: Gpus | None) -> dict[str, Any]:
    torch = native.frameworks.get("torch", {})
    cpu = ("machine", "vendor", "isa") if "isa" in native.cpu else ("machine", "vendor", "model")
    return {
        "cpu": {name: native.cpu.get(name) for name in cpu},
        "libraries": _distinct([[one.api, one.architecture, one.threads] for one in native.libraries]),
        "torch": {name: torch.get(name) for name in _TORCH_KEYS},
        "environment": {
            name: value for name, value in native.environment.items() if name in KERNEL_VARIABLES
        },
        "gpus": _distinct([[one.name, one.compute_capability] for one in gpus.gpus]) if gpus else [],
        "driver": gpus.driver if gpus else None,
    }


def _distinct(rows: Sequence[list[Any]]) -> list[list[Any]]:
    """Sorted, each once: two packages with an OpenBLAS each are no other machine than one."""
    return [list(row) for row in sorted({tuple(row) for row in rows}, key=str)]
