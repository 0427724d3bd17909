"""Which environment variables are recorded: those that can change a result, by an allow list."""

from __future__ import annotations

from collections.abc import Mapping

from mlobs.secrets import Redaction


def _names_in(table: str) -> frozenset[str]:
    return frozenset(table.split())


ENVIRONMENT_ALLOWED = _names_in("""
    PYTHONHASHSEED PYTHONOPTIMIZE PYTHONPATH PYTHONUTF8 PYTHONIOENCODING PYTHONNOUSERSITE
    CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER CUDA_LAUNCH_BLOCKING CUDA_DEVICE_MAX_CONNECTIONS
    NVIDIA_VISIBLE_DEVICES NVIDIA_TF32_OVERRIDE HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES
    HSA_OVERRIDE_GFX_VERSION LD_PRELOAD LD_LIBRARY_PATH MALLOC_ARENA_MAX KERAS_BACKEND PL_GLOBAL_SEED
    ATEN_CPU_CAPABILITY TOKENIZERS_PARALLELISM VECLIB_MAXIMUM_THREADS NUMEXPR_NUM_THREADS
    NUMEXPR_MAX_THREADS TZ LANG LANGUAGE WORLD_SIZE RANK LOCAL_RANK LOCAL_WORLD_SIZE GROUP_RANK
    SLURM_NTASKS SLURM_CPUS_PER_TASK SLURM_JOB_NUM_NODES MLOBS_SEED MLOBS_IMAGE_DIGEST
""")
_TENSORFLOW = (  # not all of TF_: Terraform keeps its variables and tokens there
    "TF_DETERMINISTIC", "TF_CUDNN_", "TF_XLA_", "TF_ENABLE_", "TF_DISABLE_", "TF_FORCE_", "TF_USE_",
    "TF_GPU_", "TF_NUM_", "TF_CPP_",
)  # fmt: skip
_PREFIXES = (
    "OMP_", "KMP_", "GOMP_", "OPENBLAS_", "GOTO_", "BLIS_", "MKL_", "DNNL_", "ONEDNN_", "CUBLAS_",
    "CUDNN_", "NCCL_", "TORCH_", "PYTORCH_", "TORCHINDUCTOR_", *_TENSORFLOW, "XLA_", "JAX_", "NPY_", "NUMBA_",
    "LC_",
)  # fmt: skip

# These choose among kernels that sum in another order, and no other fact tells what they chose.
KERNEL_VARIABLES = _names_in("""
    MKL_CBWR MKL_ENABLE_INSTRUCTIONS MKL_DYNAMIC ONEDNN_MAX_CPU_ISA DNNL_MAX_CPU_ISA ATEN_CPU_CAPABILITY
    NPY_DISABLE_CPU_FEATURES NPY_ENABLE_CPU_FEATURES NVIDIA_TF32_OVERRIDE CUBLAS_WORKSPACE_CONFIG XLA_FLAGS
""")


def is_recorded(name: str) -> bool:
    """Tell whether a variable of this name is recorded."""
    return name in ENVIRONMENT_ALLOWED or name.startswith(_PREFIXES)


def recorded_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are recorded, sorted by name; secrets in their values are masked."""
    redaction = Redaction(environment=env)
    return {name: redaction.value(name, env[name]) for name in sorted(env) if is_recorded(name)}
