"""Native facts: what numbers depend on below Python, read from real libraries in real processes."""

import json
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import msgspec
import pytest

from mlobs.repro.cpu import parse_cpuinfo
from mlobs.repro.differences import Surroundings, diff_environments
from mlobs.repro.gpus import Gpu, Gpus, capture_gpus
from mlobs.repro.libraries import Library, loaded_libraries, mapped_libraries
from mlobs.repro.native import NativeFacts, capture_native, machine_key

WITH_NUMPY = "import numpy as np\nnp.ones((8, 8)) @ np.ones((8, 8))\n"
SAY = (
    "import json\nfrom mlobs.repro.native import capture_native\n"
    "print(json.dumps(capture_native().to_facts()))"
)
NVML = """
class NVMLError(Exception): pass
def nvmlInit(): {init}
def nvmlShutdown(): pass
def nvmlSystemGetDriverVersion(): return b"550.54.15"
def nvmlSystemGetCudaDriverVersion(): return 12040
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetName(handle): return ["NVIDIA H100 80GB HBM3", b"NVIDIA A100"][handle]
class Memory: total = 85_899_345_920
def nvmlDeviceGetMemoryInfo(handle): return Memory
def nvmlDeviceGetCudaComputeCapability(handle):
    if handle == 1: raise NVMLError("Not Supported")
    return 9, 0
"""
EPYC = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9R14
flags\t\t: fpu vme sse sse2 ht smep avx avx2 fma avx512f amx_tile rdtscp

processor\t: 1
vendor_id\t: other
"""
GRAVITON = """processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd evtstrm sve bf16 i8mm
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""
MAPS = """7f00-7f01 r-xp 00000000 08:01 42 /venv/numpy.libs/libscipy_openblas64_-32a4b2a6.so
7f01-7f02 r--p 00001000 08:01 42 /venv/numpy.libs/libscipy_openblas64_-32a4b2a6.so
7f03-7f04 r-xp 00000000 08:01 43 /venv/torch/lib/libgomp.so.1
7f05-7f06 rw-p 00000000 00:00 0
7f07-7f08 r-xp 00000000 08:01 44 /usr/lib/libc.so.6
7f09-7f0a r-xp 00000000 08:01 45 /my libraries/libmkl_rt.so.2
"""
CPU = {"machine": "x86_64", "vendor": "GenuineIntel", "isa": ["avx2", "avx512f"], "model": "Xeon"}
HASWELL = Library("openblas", "libopenblas.so", "0.3.30", "Haswell", 2)


def facts(*libraries, **parts):
    return NativeFacts(**{"cpu": CPU, "libraries": libraries, **parts})


def facts_of(program, **env):
    wanted = {**os.environ, "OPENBLAS_NUM_THREADS": "2", **env}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    done = subprocess.run([sys.executable, "-c", program + SAY], env=wanted, capture_output=True, check=True)
    return NativeFacts.from_facts(json.loads(done.stdout))


def differences(a, b, **more):
    return diff_environments(Surroundings(native=a, **more), Surroundings(native=b, **more))


def openblas(found):
    library = next((one for one in found.libraries if one.api == "openblas"), None)
    if library is None:
        pytest.skip("this numpy brings no OpenBLAS")
    return library


def test_another_kernel_and_fewer_threads_are_seen_named_and_change_the_machine():
    pytest.importorskip("threadpoolctl")
    usual = facts_of(WITH_NUMPY)
    before = openblas(usual)
    if platform.machine() not in ("x86_64", "AMD64") or before.threads != 2:
        pytest.skip("the kernels named here are those of x86-64, and it takes two cores")
    kernel = "Haswell" if before.architecture != "Haswell" else "Nehalem"

    other = facts_of(WITH_NUMPY, OPENBLAS_CORETYPE=kernel, OPENBLAS_NUM_THREADS=None, OMP_NUM_THREADS="1")

    assert (openblas(other).architecture, openblas(other).threads) == (kernel, 1)
    assert other.environment["OPENBLAS_CORETYPE"] == kernel
    assert machine_key(other) != machine_key(usual)
    lines = differences(usual, other)
    assert lines[0] == f"OpenBLAS kernel {before.architecture} -> {kernel}"
    assert lines[1] == "2 -> 1 BLAS threads"
    assert {f"OPENBLAS_CORETYPE unset -> {kernel}", "OMP_NUM_THREADS unset -> 1"} <= set(lines)


def test_the_same_program_on_the_same_machine_has_the_same_key():
    first, second = facts_of(WITH_NUMPY), facts_of(WITH_NUMPY)

    assert machine_key(first) == machine_key(second)
    assert differences(first, second) == []


def test_the_threads_of_now_are_read_not_those_of_the_start():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    pytest.importorskip("numpy").ones((2, 2)) @ [1, 1]

    with threadpoolctl.threadpool_limits(1):
        limited = openblas(capture_native()).threads

    assert limited == 1


def test_nothing_is_imported_that_the_program_has_not():
    program = (
        "import sys\nfrom mlobs.repro.native import capture_native\nfound = capture_native()\n"
        "assert not {'numpy', 'torch', 'pandas', 'pynvml'} & set(sys.modules), sys.modules.keys()\n"
        "assert found.frameworks == {}, found.frameworks\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_torch_says_its_threads_and_its_switches():
    pytest.importorskip("torch")
    program = (
        "import torch\ntorch.set_num_threads(1)\ntorch.use_deterministic_algorithms(True, warn_only=True)\n"
        "torch.backends.cuda.matmul.allow_tf32 = True\n"
    )

    found = facts_of(program).frameworks["torch"]

    assert (found["threads"], found["deterministic"], found["cudnn_benchmark"]) == (1, "warn", False)
    assert found["matmul_precision"] in ("high", "tf32")


def test_a_fact_that_a_library_refuses_has_its_reason():
    broken = SimpleNamespace(__version__="9.9")

    found = capture_native({"torch": broken})

    assert found.frameworks["torch"] == {"version": "9.9"}
    assert found.missing["torch.threads"].startswith("AttributeError")


@pytest.mark.parametrize(
    ("has_begun", "expected"),
    [
        (True, {"gpus": ["NVIDIA H100", "NVIDIA H100"], "cuda_driver": "12.4", "cudnn": 90100}),
        (False, {}),  # asking would start CUDA in a program that does not use it
    ],
)
def test_torchs_gpus_are_read_once_cuda_has_begun(has_begun, expected):
    torch = SimpleNamespace(
        __version__="2.13.0",
        cuda=SimpleNamespace(
            is_initialized=lambda: has_begun,
            device_count=lambda: 2,
            get_device_name=lambda _number: "NVIDIA H100",
        ),
        backends=SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 90100)),
        _C=SimpleNamespace(_cuda_getDriverVersion=lambda: 12040),
    )

    found = capture_native({"torch": torch}).frameworks["torch"]

    assert {name: found[name] for name in ("gpus", "cuda_driver", "cudnn") if name in found} == expected


def test_a_module_that_breaks_when_it_is_looked_at_costs_no_other_fact():
    class Broken:
        @property
        def __version__(self):
            raise RuntimeError("half imported")

    found = capture_native({"torch": Broken()})

    assert found.missing["frameworks"] == "RuntimeError: half imported"
    assert found.cpu


def test_a_library_that_is_only_begun_to_be_imported_is_left_out():
    assert capture_native({"torch": SimpleNamespace(), "numpy": None}).frameworks == {}


def test_facts_become_plain_values_and_come_back():
    found = capture_native()

    assert NativeFacts.from_facts(json.loads(json.dumps(found.to_facts()))) == found
    assert machine_key(found.to_facts()) == machine_key(found)


def test_without_threadpoolctl_the_mapped_files_are_named_and_the_rest_is_missing():
    program = (
        "import sys, importlib.util, numpy\n"
        "sys.path[:] = [one for one in sys.path if 'site-packages' not in one]\n"
        "from mlobs.repro.libraries import loaded_libraries\n"
        "found, reason = loaded_libraries()\n"
        "assert 'threadpoolctl is not installed' in reason, reason\n"
        "assert sys.platform != 'linux' or any('blas' in one.api for one in found), found\n"
    )
    program = "import mlobs.repro.native\n" + program

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_mapped_files_are_each_named_once():
    found = mapped_libraries(MAPS.splitlines(keepends=True))

    assert [(one.api, one.file) for one in found] == [
        ("gomp", "libgomp.so.1"),
        ("mkl_rt", "libmkl_rt.so.2"),
        ("scipy_openblas64_", "libscipy_openblas64_-32a4b2a6.so"),
    ]


def test_the_cpu_is_known_by_what_kernels_are_chosen_by():
    assert parse_cpuinfo(EPYC) == {
        "vendor": "AuthenticAMD",
        "model": "AMD EPYC 9R14",
        "isa": ["amx_tile", "avx", "avx2", "avx512f", "fma", "sse", "sse2"],
    }
    assert parse_cpuinfo(GRAVITON) == {
        "vendor": "0x41",
        "model": "0xd40",
        "isa": ["asimd", "bf16", "i8mm", "sve"],
    }


def test_the_key_is_that_of_what_computes_and_not_of_the_host():
    same = facts(
        Library("openblas", "other-name.so", "0.3.31", "Haswell", 2),
        HASWELL,
        cpu={**CPU, "model": "Xeon Gold", "usable": 64},
        environment={"LANG": "C"},
    )

    assert machine_key(same) == machine_key(facts(HASWELL))


@pytest.mark.parametrize(
    "other",
    [
        facts(msgspec.structs.replace(HASWELL, architecture="Zen")),
        facts(msgspec.structs.replace(HASWELL, threads=4)),
        facts(HASWELL, cpu={**CPU, "isa": ["avx2"]}),
        facts(HASWELL, environment={"MKL_CBWR": "COMPATIBLE"}),
        facts(HASWELL, frameworks={"torch": {"gpus": ["NVIDIA H100"]}}),
        facts(HASWELL, frameworks={"torch": {"threads": 1}}),
    ],
)
def test_the_key_differs_where_bits_may(other):
    assert machine_key(other) != machine_key(facts(HASWELL))


def test_the_key_takes_in_the_gpus_and_their_driver():
    h100 = Gpus((Gpu(0, "NVIDIA H100"),), driver="550")

    keys = {machine_key(facts(), one) for one in (None, h100, msgspec.structs.replace(h100, driver="560"))}

    assert len(keys) == 3


def test_the_key_never_changes():
    assert machine_key(facts(HASWELL)) == (
        "machine1:ba0e1def1d43f146785ff09037219d7580ef415ebf8b1697b24b2e2de79a35e1"
    )


def test_gpus_and_their_driver_are_read(tmp_path):
    assert gpus_of(tmp_path, NVML.format(init="pass")) == Gpus(
        (
            Gpu(0, "NVIDIA H100 80GB HBM3", 85_899_345_920, "9.0"),
            Gpu(1, "NVIDIA A100", 85_899_345_920, None),
        ),
        driver="550.54.15",
        cuda="12.4",
    )


def test_without_a_driver_there_are_no_gpus_and_the_reason_is_said(tmp_path):
    found = gpus_of(tmp_path, NVML.format(init="raise NVMLError('Driver Not Loaded')"))

    assert found == Gpus(missing="the NVIDIA driver does not answer: Driver Not Loaded")


def test_this_machines_gpus_are_read_or_the_reason_is_said():
    found = capture_gpus()

    assert bool(found.gpus) != bool(found.missing)


def test_other_gpus_and_drivers_are_named():
    a = Surroundings(gpus=Gpus((Gpu(0, "NVIDIA H100"),), driver="550"))
    b = Surroundings(gpus=Gpus(missing="the NVIDIA driver does not answer"))

    assert diff_environments(a, b) == ["GPUs NVIDIA H100 -> none", "NVIDIA driver 550 -> none"]


def test_parts_that_one_of_them_lacks_are_not_compared():
    assert diff_environments(Surroundings(native=facts(HASWELL)), Surroundings()) == []


def test_cpu_extensions_that_came_and_went_are_named():
    other = facts(cpu={**CPU, "isa": ["avx2", "amx_tile"]})

    assert differences(facts(), other) == ["CPU extensions: without avx512f, with amx_tile more"]


def gpus_of(folder, module):
    """What a process says whose `pynvml` is this one."""
    (folder / "pynvml.py").write_text(module, encoding="utf-8")
    program = (
        "import json, sys\nsys.path.insert(0, sys.argv[1])\nfrom mlobs.repro.gpus import capture_gpus\n"
        "print(json.dumps(capture_gpus().to_facts()))"
    )
    done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, check=True)
    return Gpus.from_facts(json.loads(done.stdout))


def test_all_loaded_libraries_have_a_file():
    found, _ = loaded_libraries()

    assert all(one.file and "/" not in one.file for one in found)
