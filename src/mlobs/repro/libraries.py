"""The native libraries of this process that decide in which order numbers are summed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable
from typing import Any

import msgspec

PACKAGE = "threadpoolctl"
_MAPS = "/proc/self/maps"
_KNOWN = re.compile(
    r"^lib(?P<name>openblas\w*|scipy_openblas\w*|mkl_rt|mkl_core|blis|cblas|blas|atlas|armpl\w*"
    r"|gomp|omp|iomp5|flexiblas)\b"
)
THREADPOOLCTL_MISSING = (
    "kernel architecture and thread counts: threadpoolctl is not installed - type: pip install 'mlobs[repro]'"
)


class Library(msgspec.Struct, frozen=True):
    """One loaded library. `api` is what it implements (openblas, mkl, openmp ...), `file` its file's name.

    `architecture` is the kernel it chose for this CPU ("SkylakeX", "Haswell"). What threadpoolctl would
    have to tell is None without it.
    """

    api: str
    file: str
    version: str | None = None
    architecture: str | None = None
    threads: int | None = None
    threading_layer: str | None = None


def loaded_libraries() -> tuple[tuple[Library, ...], str | None]:
    """Return the BLAS and OpenMP libraries that are loaded, and what could not be had of them, if anything.

    By threadpoolctl if it is installed (40 ms the first time), else the names of the mapped files.
    """
    if importlib.util.find_spec(PACKAGE) is not None:
        found = importlib.import_module(PACKAGE).threadpool_info()
        return tuple(sorted(map(_library, found), key=_order)), None
    if sys.platform != "linux":
        return (), THREADPOOLCTL_MISSING
    with open(_MAPS, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - its lines are made while it is read
        return mapped_libraries(file), THREADPOOLCTL_MISSING


def mapped_libraries(lines: Iterable[str]) -> tuple[Library, ...]:
    """The known libraries among the files that Linux says are mapped, as /proc/PID/maps writes them."""
    paths = (line.split(maxsplit=5)[5:] for line in lines)
    files = {os.path.basename(path[0].strip()) for path in paths if path}  # noqa: PTH119 - thousands of lines
    found = [Library(match["name"], file) for file in files if (match := _KNOWN.match(file))]
    return tuple(sorted(found, key=_order))


def _library(info: dict[str, Any]) -> Library:
    return Library(
        api=str(info.get("internal_api", "")),
        file=os.path.basename(str(info.get("filepath", ""))),  # noqa: PTH119 - as above
        version=info.get("version"),
        architecture=info.get("architecture"),
        threads=info.get("num_threads"),
        threading_layer=info.get("threading_layer"),
    )


def _order(library: Library) -> tuple[str, str]:
    return library.api, library.file
