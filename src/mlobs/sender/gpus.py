"""The GPUs of the machine, by NVIDIA's NVML (package nvidia-ml-py, module `pynvml`).

Every function that is called here, and the structure that it returns, is described in NVIDIA's NVML
API Reference Guide. A machine without the package, or without a driver, has no GPUs.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from mlobs.sender.load import MB

PACKAGE = "pynvml"
_NO_GPUS = ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded", "NVMLError_NoPermission")
_NOT_HERE = ("NVMLError_NotSupported", "NVMLError_NotFound", "NVMLError_NoPermission")
_MILLIWATTS = 1000.0


class Gpus:
    """Those GPUs that the program may use, numbered as `nvidia-smi` does.

    Args:
        nvml: the module `pynvml`, or one with the same functions.
        visible: the value of CUDA_VISIBLE_DEVICES, None if it is not set.
    """

    def __init__(self, nvml: Any, visible: str | None = None) -> None:
        self._nvml, self._visible = nvml, visible
        self._handles: dict[int, Any] | None = None

    def levels(self, pids: Collection[int]) -> dict[str, float]:
        """Read the GPUs now; `pids` are the program's processes.

        What a GPU does not support is left out.

        Raises:
            Exception: NVML's, for instance because the GPU has fallen off the bus.
        """
        if self._handles is None:
            self._handles = dict(self._find())
        found: dict[str, float] = {}
        for number, handle in self._handles.items():
            found |= {f"gpu_{number}_{name}": value for name, value in self._of_one(handle, pids).items()}
        return found

    def _find(self) -> Iterator[tuple[int, Any]]:
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            if type(error).__name__ in _NO_GPUS:
                return
            raise
        for number in range(self._nvml.nvmlDeviceGetCount()):
            handle = self._nvml.nvmlDeviceGetHandleByIndex(number)
            if is_visible(number, _text(self._nvml.nvmlDeviceGetUUID(handle)), self._visible):
                yield number, handle

    def _of_one(self, handle: Any, pids: Collection[int]) -> dict[str, float]:
        nvml = self._nvml
        reads: Mapping[str, Callable[[], float]] = {
            "utilization_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "memory_used_mb": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used / MB,
            "memory_percent": lambda: _used_percent(nvml.nvmlDeviceGetMemoryInfo(handle)),
            "program_memory_mb": lambda: _program_bytes(self._users(handle), pids) / MB,
            "temperature_celsius": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "power_watts": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / _MILLIWATTS,
        }
        found: dict[str, float] = {}
        for name, read in reads.items():
            try:
                found[name] = float(read())
            except nvml.NVMLError as error:
                if type(error).__name__ not in _NOT_HERE:
                    raise
        return found

    def _users(self, handle: Any) -> list[Any]:
        return [
            *self._nvml.nvmlDeviceGetComputeRunningProcesses(handle),
            *self._nvml.nvmlDeviceGetGraphicsRunningProcesses(handle),
        ]


def here() -> Gpus | None:
    """The GPUs of this machine; None if nvidia-ml-py is not installed. Talks to no driver yet."""
    if importlib.util.find_spec(PACKAGE) is None:
        return None
    return Gpus(importlib.import_module(PACKAGE), os.environ.get("CUDA_VISIBLE_DEVICES"))


def is_visible(number: int, uuid: str, visible: str | None) -> bool:
    """Tell whether CUDA lets the program use a GPU, by the rules of CUDA_VISIBLE_DEVICES.

    It lists numbers or beginnings of UUIDs; what stands behind the first that is neither does not
    count. Slices of GPUs ("MIG-...") do not tell which GPU they are of, so each may be meant.
    """
    if visible is None:
        return True
    for one in (part.strip() for part in visible.split(",")):
        if one.startswith("MIG-"):
            return True
        if not (one.isdecimal() or one.startswith("GPU-")):
            return False
        if one == str(number) or (one.startswith("GPU-") and uuid.startswith(one)):
            return True
    return False


def _program_bytes(users: Collection[Any], pids: Collection[int]) -> float:
    """Memory of the program's own processes; each counts once, though it may compute and draw."""
    held = {user.pid: user.usedGpuMemory or 0 for user in users}  # None where the driver does not say
    return float(sum(size for pid, size in held.items() if pid in pids))


def _used_percent(memory: Any) -> float:
    return 100.0 * memory.used / memory.total if memory.total else 0.0


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)  # older packages return bytes
