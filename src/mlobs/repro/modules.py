"""Where the loaded modules come from: Python itself, packages, the program's own code, or beside it."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from mlobs.repro.places import is_library, is_too_wide

_CACHE_VARIABLES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
ARCHIVES = (".zip", ".egg", ".whl", ".pyz")


@dataclass(frozen=True)
class LoadedModules:
    """The source files of loaded modules that are neither Python's nor of an installed package.

    `local` are all of them. `loose` are the folders (or single files) outside of the program's own root that
    some were loaded from, in the order of `sys.path`. `changed` were edited or removed after the process
    started, so what ran may not be what lies there. What of them is captured is found out later: git is not
    asked here, in the training process.
    """

    local: tuple[Path, ...]
    loose: tuple[Path, ...]
    changed: tuple[Path, ...]


def loaded_roots(
    modules: Mapping[str, ModuleType | None] | None = None,
    *,
    root: Path | None = None,
    started_at: float | None = None,
) -> LoadedModules:
    """Sort out the loaded modules; `modules` are `sys.modules` if not given.

    `root` is the program's own folder or repository; without it, that of the main script or the working
    directory. `started_at` is when the process started, in Unix seconds; without it nothing is `changed`.
    """
    loaded = dict(sys.modules if modules is None else modules)
    files = {name: path for name, module in loaded.items() if (path := _source(module)) is not None}
    own = {name: path for name, path in files.items() if not is_library(path) and not _is_generated(path)}
    top = (root or _own_root(loaded)).resolve()
    local = sorted({Path(path) for path in own.values()})
    inside = {path for path in local if path.resolve().is_relative_to(top)}
    beside = {_import_root(name, Path(path)) for name, path in own.items() if Path(path) not in inside}
    return LoadedModules(
        local=tuple(local),
        loose=tuple(sorted(_outermost(beside), key=_turn)),
        changed=tuple(path for path in local if started_at is not None and _changed_at(path) > started_at),
    )


def _is_generated(path: str) -> bool:
    """Tell whether PyTorch's compiler, or Triton, wrote a file: it follows from the code it was made of."""
    caches = [one for name in _CACHE_VARIABLES if (one := os.environ.get(name))]
    place = Path(path)
    return any(part.startswith("torchinductor_") or part == ".triton" for part in place.parts) or any(
        place.is_relative_to(one) for one in caches
    )


def _source(module: ModuleType | None) -> str | None:
    """The file that a module was loaded from. What objects pretend to be modules may answer anything."""
    path = getattr(module, "__dict__", {}).get("__file__")
    if not isinstance(path, str) or not path:
        return None
    return os.path.abspath(path)  # noqa: PTH100 - a link stays a link: it says how the module was found


def _own_root(modules: Mapping[str, ModuleType | None]) -> Path:
    """The repository, or the folder, of the main script; a script of a library has nothing to say."""
    script = _source(modules.get("__main__"))
    folder = Path(script).parent if script and not is_library(script) else Path.cwd()
    return next((one for one in (folder, *folder.parents) if (one / ".git").exists()), folder)


def _import_root(name: str, path: Path) -> Path:
    """The folder on `sys.path` that a module came from; of one that is nobody's project the module alone."""
    for parent in path.parents:
        if parent.suffix in ARCHIVES and parent.is_file():
            return parent
    depth = name.count(".") + (
        path.stem == "__init__"
    )  # folders between the file and that of the first package
    package = path.parents[depth - 1] if 0 < depth < len(path.parents) else path
    return package if is_too_wide(package.parent) else package.parent


def _outermost(folders: Iterable[Path]) -> list[Path]:
    """Without those that lie in another."""
    kept: list[Path] = []
    for folder in sorted(set(folders), key=lambda one: len(one.parts)):
        if not any(folder.is_relative_to(one) for one in kept):
            kept.append(folder)
    return kept


def _turn(folder: Path) -> tuple[int, str]:
    """When Python looks into a folder; what is on no path comes last."""
    try:
        return sys.path.index(str(folder)), str(folder)
    except ValueError:
        return len(sys.path), str(folder)


def _changed_at(path: Path) -> float:
    """The latest change of a file or its name, in Unix seconds; infinity of one that is gone."""
    try:
        about = path.stat()
    except OSError:
        is_packed = any(one.suffix in ARCHIVES and one.is_file() for one in path.parents)
        return 0.0 if is_packed else math.inf
    return max(about.st_mtime, about.st_ctime)
