"""Where the loaded modules come from: Python itself, packages, the program's own code, or beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from mlobs.repro.places import is_library, is_too_wide

_ARCHIVES = (".zip", ".egg", ".whl", ".pyz")


@dataclass(frozen=True)
class LoadedModules:
    """The source files of loaded modules that are neither Python's nor of an installed package.

    `local` are all of them. `loose` are the folders (or single files) outside of the program's own root that
    some were loaded from. `changed` were edited after the process started, so what ran may not be what lies
    there. What of them is captured is found out later: git is not asked here, in the training process.
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
    own = {name: path for name, path in files.items() if not is_library(path) and Path(path).is_absolute()}
    top = (root or _own_root(loaded)).resolve()
    local = sorted({Path(path) for path in own.values()})
    inside = {path for path in local if path.resolve().is_relative_to(top)}
    beside = {_import_root(name, Path(path)) for name, path in own.items() if Path(path) not in inside}
    return LoadedModules(
        local=tuple(local),
        loose=tuple(sorted(_outermost(beside))),
        changed=tuple(path for path in local if started_at is not None and _changed_at(path) > started_at),
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
        if parent.suffix in _ARCHIVES and parent.is_file():
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


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # gone, or in an archive: nothing says that it was edited
        return 0.0
