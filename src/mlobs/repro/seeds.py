"""Seeding what can be seeded, and saying what cannot."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from mlobs.errors import UsageError

Deterministic: TypeAlias = Literal["off", "warn", "strict"]

SEEDS = 1 << 32  # numpy's legacy generator and PYTHONHASHSEED take no larger one
SEED_VARIABLE = "MLOBS_SEED"  # how `mlobs run --seed` tells a program the seed
HASH_SEED = "PYTHONHASHSEED"
CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
CUBLAS_DETERMINISTIC = ":4096:8"  # one of the two values that cuBLAS documents as reproducible: 24 MiB more

_ALWAYS = (
    "numpy.random.default_rng() without a seed (it draws new entropy: pass it the seed)",
    "threads and processes that draw from one generator in an order of their own",
)
_last: SeedReport | None = None


class SeedReport(msgspec.Struct, frozen=True):
    """What `seed_everything` did: each entry of `not_covered` says why, and what to type."""

    seed: int
    deterministic: str
    covered: list[str]
    not_covered: list[str]


def seed_everything(seed: int | None = None, *, deterministic: Deterministic = "warn") -> SeedReport:
    """Seed the random generators of Python and of every imported library, and ask for deterministic kernels.

    Libraries imported later are not seeded: call it after the imports. Calling it again seeds anew.

    Args:
        seed: 0 to 4294967295. None takes that of `mlobs run --seed`, else a fresh one; the report says which.
        deterministic: "off" changes no kernel; "warn" asks for deterministic ones and lets torch warn of
            operations that have none; "strict" makes those errors, in TensorFlow too. Both may be slower.

    Raises:
        UsageError: the seed is out of range, or `deterministic` is none of the three.
    """
    global _last  # noqa: PLW0603 - the generators are the process's too
    chosen = _chosen(seed)
    if deterministic not in ("off", "warn", "strict"):
        raise UsageError(f'deterministic={deterministic!r}; expected "off", "warn" or "strict"')
    report = SeedReport(chosen, deterministic, [], [])
    random.seed(chosen)
    report.covered.append("random")
    _seed_libraries(chosen, report)
    if deterministic != "off":
        _ask_for_determinism(report, is_strict=deterministic == "strict")
    _look_at_hash_seed(chosen, report)
    report.not_covered.extend(_ALWAYS)
    _last = report
    return report


def last_seeding() -> SeedReport | None:
    """The report of the latest `seed_everything` in this process, None before the first."""
    return _last


def checked_seed(seed: object) -> int:
    """The seed, if it is one.

    Raises:
        UsageError: it is no integer from 0 to 4294967295.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEEDS:
        raise UsageError(f"seed is {seed!r}; expected an integer from 0 to {SEEDS - 1}")
    return seed


def _chosen(seed: int | None) -> int:
    if seed is not None:
        return checked_seed(seed)
    told = os.environ.get(SEED_VARIABLE, "").strip()
    if told:
        return checked_seed(int(told) if told.isdecimal() else told)
    return int.from_bytes(os.urandom(4), "little")


def _seed_libraries(seed: int, report: SeedReport) -> None:
    for name, (what, act) in _SEEDERS.items():
        module = sys.modules.get(name)
        if module is not None:
            try:
                act(module, seed)
            except Exception as error:  # a half-imported or broken library must not end the training
                report.not_covered.append(f"{name} ({type(error).__name__}: {error})")
            else:
                report.covered.append(what)
        elif importlib.util.find_spec(name) is not None:
            report.not_covered.append(
                f"{name} (not imported yet: call seed_everything after `import {name}`)"
            )
    if "jax" in sys.modules:
        report.not_covered.append(f"jax (its keys are explicit: jax.random.key({seed}))")


_SEEDERS: Mapping[str, tuple[str, Callable[[Any, int], object]]] = {
    "numpy": ("numpy.random (the global generator)", lambda numpy, seed: numpy.random.seed(seed)),
    "torch": ("torch (all devices)", lambda torch, seed: torch.manual_seed(seed)),
    "tensorflow": ("tensorflow", lambda tensorflow, seed: tensorflow.random.set_seed(seed)),
    "keras": ("keras", lambda keras, seed: keras.utils.set_random_seed(seed)),
    "cupy": ("cupy.random", lambda cupy, seed: cupy.random.seed(seed)),
}


def _ask_for_determinism(report: SeedReport, *, is_strict: bool) -> None:
    torch, tensorflow = sys.modules.get("torch"), sys.modules.get("tensorflow")
    has_begun = torch is not None and torch.cuda.is_initialized()
    if CUBLAS in os.environ or not has_begun:
        os.environ.setdefault(CUBLAS, CUBLAS_DETERMINISTIC)
        report.covered.append(f"{CUBLAS}={os.environ[CUBLAS]}")
    else:
        report.not_covered.append(
            f"{CUBLAS} (CUDA has begun without it: call seed_everything before the first use of the GPU)"
        )
    if torch is not None:
        torch.use_deterministic_algorithms(True, warn_only=not is_strict)
        torch.backends.cudnn.benchmark = False
        report.covered.append(f"torch deterministic algorithms ({'strict' if is_strict else 'warn'})")
    if tensorflow is not None and is_strict:
        tensorflow.config.experimental.enable_op_determinism()
        report.covered.append("tensorflow op determinism")
    elif tensorflow is not None:
        report.not_covered.append(
            'tensorflow op determinism (it cannot only warn: seed_everything(..., deterministic="strict"))'
        )


def _look_at_hash_seed(seed: int, report: SeedReport) -> None:
    """The order of sets of strings follows the hash seed, which is fixed when the interpreter starts."""
    fixed = _hash_seed_at_start()
    if fixed is not None:
        report.covered.append(f"{HASH_SEED}={fixed}")
    else:
        report.not_covered.append(
            f"{HASH_SEED} (only settable before Python starts: mlobs run --seed {seed} -- python "
            f"{Path(sys.argv[0]).name or 'train.py'})"
        )


def _hash_seed_at_start() -> str | None:
    """What this interpreter was started with, not what somebody has since put into `os.environ`."""
    if sys.flags.ignore_environment:
        return None
    try:
        started_with = Path("/proc/self/environ").read_bytes()
    except OSError:  # no Linux: what the program sees is all that there is
        value = os.environ.get(HASH_SEED, "")
    else:
        prefix = f"{HASH_SEED}=".encode()
        found = [one for one in started_with.split(b"\0") if one.startswith(prefix)]
        value = found[0].removeprefix(prefix).decode() if found else ""
    return value if value.isdecimal() else None
