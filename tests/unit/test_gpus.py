"""GPUs, by what NVIDIA's NVML API Reference Guide says that its functions return, and without a driver."""

from types import SimpleNamespace

import pynvml
import pytest

from mlobs.sender import gpus
from mlobs.sender.gpus import Gpus, is_visible


class Driver:
    """What NVML's functions return on a machine with two GPUs; the names and errors are NVML's own."""

    NVMLError = pynvml.NVMLError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self, **instead):
        self._instead = instead

    def __getattribute__(self, name):
        if name.startswith("nvml") and name in object.__getattribute__(self, "_instead"):
            error = object.__getattribute__(self, "_instead")[name]

            def fail(*_):
                raise pynvml.NVMLError(error)

            return fail
        return object.__getattribute__(self, name)

    def nvmlInit(self):  # noqa: N802 - NVML's name
        return None

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, handle):  # noqa: N802
        return ["GPU-aaaa1111", b"GPU-bbbb2222"][handle]

    def nvmlDeviceGetUtilizationRates(self, handle):  # noqa: N802
        return SimpleNamespace(gpu=[87, 3][handle], memory=40)

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        return SimpleNamespace(total=80_000_000_000, used=[20_000_000_000, 0][handle], free=0)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802
        users = [
            SimpleNamespace(pid=7, usedGpuMemory=18_000_000_000),
            SimpleNamespace(pid=9, usedGpuMemory=5),
        ]
        return [users, [SimpleNamespace(pid=7, usedGpuMemory=None)]][handle]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle):  # noqa: N802
        return [[], []][handle]

    def nvmlDeviceGetTemperature(self, handle, sensor):  # noqa: N802
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return [65, 30][handle]

    def nvmlDeviceGetPowerUsage(self, handle):  # noqa: N802
        return [412_500, 60_000][handle]


def test_each_gpu_has_its_values_in_the_units_of_their_names():
    found = Gpus(Driver()).levels({7, 8})

    assert {name: value for name, value in found.items() if name.startswith("gpu_0_")} == {
        "gpu_0_utilization_percent": 87.0,
        "gpu_0_memory_used_mb": 20_000.0,
        "gpu_0_memory_percent": 25.0,
        "gpu_0_program_memory_mb": 18_000.0,
        "gpu_0_temperature_celsius": 65.0,
        "gpu_0_power_watts": 412.5,
    }
    assert (found["gpu_1_utilization_percent"], found["gpu_1_program_memory_mb"]) == (3.0, 0.0)


def test_what_a_gpu_does_not_support_is_left_out():
    driver = Driver(nvmlDeviceGetPowerUsage=pynvml.NVML_ERROR_NOT_SUPPORTED)

    found = Gpus(driver).levels(())

    assert "gpu_0_power_watts" not in found
    assert found["gpu_0_temperature_celsius"] == 65.0


def test_a_gpu_that_is_lost_is_an_error():
    driver = Driver(nvmlDeviceGetUtilizationRates=pynvml.NVML_ERROR_GPU_IS_LOST)

    with pytest.raises(pynvml.NVMLError):
        Gpus(driver).levels(())


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_without_a_driver_there_are_no_gpus(error):
    assert Gpus(Driver(nvmlInit=error)).levels(()) == {}


def test_a_driver_that_does_not_fit_its_library_is_an_error_until_it_does():
    driver = Driver(nvmlInit=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    found = Gpus(driver)

    with pytest.raises(pynvml.NVMLError):
        found.levels(())
    driver._instead.clear()
    assert found.levels(())


def test_this_machine_is_asked_for_real():
    """With a driver there are values, without one there are none; neither raises."""
    real = gpus.here()
    assert real is not None
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError_LibraryNotFound:
        count = 0

    assert bool(real.levels(())) == (count > 0)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [0, 1]),
        ("", []),
        ("-1", []),
        ("1", [1]),
        ("1,0", [0, 1]),
        ("0,-1,1", [0]),
        ("GPU-bbbb", [1]),
        ("MIG-aaaa", [0, 1]),
    ],
)
def test_only_gpus_that_the_program_may_use_are_read(visible, expected):
    uuids = ["GPU-aaaa1111", "GPU-bbbb2222"]

    assert [number for number in (0, 1) if is_visible(number, uuids[number], visible)] == expected
    numbers = {int(name.split("_")[1]) for name in Gpus(Driver(), visible).levels(())}
    assert sorted(numbers) == expected
