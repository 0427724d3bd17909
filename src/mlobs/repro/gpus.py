"""The GPUs that a program may use and their driver, by NVIDIA's NVML (package nvidia-ml-py, `pynvml`).

Read where no training is: loading the driver's library takes tens of milliseconds. The functions are
those of NVIDIA's NVML API Reference Guide.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

PACKAGE = "pynvml"


class Gpu(msgspec.Struct, frozen=True):
    """One GPU, numbered as `nvidia-smi` does. `compute_capability` is "9.0" for an H100."""

    index: int
    name: str
    memory_bytes: int | None = None
    compute_capability: str | None = None


class Gpus(msgspec.Struct, frozen=True):
    """All GPUs of the machine, visible to the program or not, and the driver.

    `cuda` is the newest CUDA version that the driver supports. `missing` says why there are none.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    missing: str | None = None

    def to_facts(self) -> dict[str, Any]:
        """The GPUs as plain values."""
        facts: dict[str, Any] = msgspec.to_builtins(self)
        return facts

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Gpus:
        """The GPUs that `to_facts` made plain values of."""
        return msgspec.convert(facts, cls)


def capture_gpus() -> Gpus:
    """Read the machine's GPUs; without nvidia-ml-py or a driver there are none, and `missing` says why."""
    if importlib.util.find_spec(PACKAGE) is None:
        return Gpus(missing="nvidia-ml-py is not installed - type: pip install 'mlobs[system]'")
    nvml = importlib.import_module(PACKAGE)
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Gpus(missing=f"the NVIDIA driver does not answer: {error}")
    try:
        return Gpus(
            gpus=tuple(_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())),
            driver=_text(nvml.nvmlSystemGetDriverVersion()),
            cuda=_cuda(nvml.nvmlSystemGetCudaDriverVersion()),
        )
    except nvml.NVMLError as error:
        return Gpus(missing=f"the NVIDIA driver refuses: {error}")
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    return Gpu(
        index,
        _text(nvml.nvmlDeviceGetName(handle)),
        _supported(nvml, lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).total)),
        _supported(nvml, lambda: "{}.{}".format(*nvml.nvmlDeviceGetCudaComputeCapability(handle))),
    )


def _supported(nvml: Any, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except nvml.NVMLError:  # this GPU, or a slice of one, does not tell
        return None


def _cuda(number: int) -> str:
    """NVML writes 12.4 as 12040."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)  # older packages return bytes
