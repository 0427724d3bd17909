"""What numpy, torch and other libraries say of themselves, if this process has imported them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Modules: TypeAlias = Mapping[str, Any]
Read: TypeAlias = Callable[[Any], Any]

_VERSION_ONLY = ("scipy", "sklearn", "xgboost", "lightgbm", "catboost", "cupy", "transformers", "keras")


def framework_facts(modules: Modules) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the facts of each imported library, and for each fact that it refuses the reason.

    Nothing is imported, and no GPU is initialised.
    """
    facts: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for name in (*_READERS, *_VERSION_ONLY):
        module = modules.get(name)
        if module is None or not hasattr(module, "__version__"):  # not imported, or only begun to be
            continue
        facts[name] = {"version": str(module.__version__)}
        for fact, read in _READERS.get(name, {}).items():
            try:
                value = read(module)
            except Exception as error:
                missing[f"{name}.{fact}"] = f"{type(error).__name__}: {error}"
            else:
                facts[name] |= {} if value is None else {fact: value}
    return facts, missing


def _numpy_simd(numpy: Any) -> list[str]:
    """The extensions that numpy dispatches to here: baseline and found, after NPY_DISABLE_CPU_FEATURES."""
    names = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")
    core = next((sys.modules[name] for name in names if name in sys.modules), None)
    if core is None:
        raise AttributeError(f"numpy {numpy.__version__} keeps its CPU features elsewhere")
    usable = {name for name, is_on in core.__cpu_features__.items() if is_on}
    return sorted(usable & {*core.__cpu_baseline__, *core.__cpu_dispatch__})


def _matmul_precision(torch: Any) -> str:
    """How float32 is multiplied: TF32 keeps 10 bits of the mantissa. Since 2.9 torch has two switches."""
    chosen = str(getattr(torch.backends.cuda.matmul, "fp32_precision", "none"))
    return chosen if chosen != "none" else str(torch.get_float32_matmul_precision())


def _cudnn_precision(torch: Any) -> str:
    """The same of cuDNN's convolutions. A newer torch may warn if asked by the older name."""
    chosen = getattr(getattr(torch.backends.cudnn, "conv", None), "fp32_precision", None)
    if chosen is not None:
        return str(chosen)
    return "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"


def _cuda_driver(torch: Any) -> str | None:
    number = torch._C._cuda_getDriverVersion() if _uses_cuda(torch) else 0  # noqa: SLF001 - it has no public name
    return f"{number // 1000}.{number % 1000 // 10}" if number else None


def _gpus(torch: Any) -> list[str] | None:
    """The models in use. Asking before CUDA has begun would begin it."""
    if not _uses_cuda(torch):
        return None
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def _uses_cuda(torch: Any) -> bool:
    return bool(torch.cuda.is_initialized())


def _cudnn(torch: Any) -> int | None:
    return torch.backends.cudnn.version() if _uses_cuda(torch) else None


def _deterministic(torch: Any) -> str:
    if not torch.are_deterministic_algorithms_enabled():
        return "off"
    return "warn" if torch.is_deterministic_algorithms_warn_only_enabled() else "strict"


def _tensorflow_deterministic(tensorflow: Any) -> bool | None:
    context = sys.modules.get("tensorflow.python.framework.config")
    ask = getattr(context, "is_op_determinism_enabled", None)
    return bool(ask()) if ask and tensorflow else None


_TORCH: dict[str, Read] = {
    "threads": lambda torch: torch.get_num_threads(),
    "interop_threads": lambda torch: torch.get_num_interop_threads(),
    "cpu_capability": lambda torch: torch.backends.cpu.get_cpu_capability(),
    "mkl": lambda torch: torch.backends.mkl.is_available(),
    "cuda": lambda torch: torch.version.cuda,
    "hip": lambda torch: torch.version.hip,
    "cudnn": _cudnn,
    "cuda_driver": _cuda_driver,
    "gpus": _gpus,
    "deterministic": _deterministic,
    "cudnn_deterministic": lambda torch: torch.backends.cudnn.deterministic,
    "cudnn_benchmark": lambda torch: torch.backends.cudnn.benchmark,
    "matmul_precision": _matmul_precision,
    "cudnn_precision": _cudnn_precision,
    "default_dtype": lambda torch: str(torch.get_default_dtype()).removeprefix("torch."),
}
_READERS: dict[str, dict[str, Read]] = {
    "numpy": {"simd": _numpy_simd},
    "torch": _TORCH,
    "tensorflow": {"deterministic": _tensorflow_deterministic},
    "jax": {},
}
