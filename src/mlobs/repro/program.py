"""Where the code of a program lies now, and the command that starts it again there. Pure."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlobs.errors import UsageError
from mlobs.repro.code_root import CodeRoot, place_of
from mlobs.repro.modules import ARCHIVES
from mlobs.secrets import REDACTED


@dataclass(frozen=True)
class Restored:
    """Where a program's code was put: `folder` holds each root at its place."""

    folder: Path
    roots: tuple[CodeRoot, ...]

    def place_of(self, path: str) -> Path | None:
        """Where a path of then lies now; None if it was in no root. The innermost root counts."""
        place = place_of(self.roots, path)
        return None if place is None else self.folder / place


def command_of(
    entry: Mapping[str, Any],
    restored: Restored,
    python: Path,
    params: Mapping[str, Any],
    executed: Path | None,
) -> list[str]:
    """Return the command that starts the program again, from its restored code.

    `executed` is a notebook's cells as they were run. A tracked function that was called at a prompt is
    called again, with the params of the run.

    Raises:
        UsageError: it cannot be started again; the message says why, and what to type.
    """
    if entry.get("is_redacted"):
        raise UsageError(_give_it("a secret was taken out of its command line, or it is not UTF-8"))
    arguments = list(entry.get("command", ()))[1:]
    match entry.get("kind"):
        case "script":
            return [str(python), *_with_script(entry, arguments, restored, python)]
        case "module" | "command":
            return [str(python), *(str(_moved(one, restored)) for one in arguments)]
        case "notebook":
            if executed is None:
                raise UsageError(_give_it("the cells of its notebook were not captured"))
            return [str(python), str(executed)]
        case _:
            return [str(python), "-c", _call(entry, params)]


def folder_of(entry: Mapping[str, Any], restored: Restored, otherwise: Path) -> Path:
    """Return the working directory of the repetition: its place in the restored code, or an empty folder."""
    return restored.place_of(started_in(entry)) or otherwise


def started_in(entry: Mapping[str, Any]) -> str:
    """Return the folder that the program was started in: some change it before their first run."""
    cwd, target = str(entry.get("cwd", "")), str(entry.get("target", ""))
    arguments = list(entry.get("command", ()))[1:]
    if entry.get("kind") != "script" or any(_names(argument, cwd, target) for argument in arguments):
        return cwd
    for argument in arguments:
        relative = os.sep + os.path.normpath(argument)
        if not argument.startswith(("-", os.pardir)) and target.endswith(relative):
            return target[: -len(relative)]
    return cwd


def import_path(
    environment: Mapping[str, str], restored: Restored, import_roots: Sequence[str], own: Path
) -> str:
    """Return the PYTHONPATH of the repetition: what it was, at its new places, and mlobs itself behind.

    `import_roots` are folders (or single modules and packages) of then that something was imported from.
    """
    entries = [one for one in environment.get("PYTHONPATH", "").split(os.pathsep) if one]
    moved = [str(restored.place_of(one) or one) for one in entries]
    tops = [restored.folder / root.place for root in restored.roots if root.place.startswith("loose/")]
    found = [place for one in import_roots if (place := restored.place_of(one)) is not None]
    loose = [str(_folder_on_path(one)) for one in (*found, *tops)]
    return os.pathsep.join(dict.fromkeys([*moved, *loose, str(own)]))


def _folder_on_path(place: Path) -> Path:
    """Where Python is to look for what lies here: around a single module or package, in an archive."""
    is_module = place.is_file() and place.suffix not in ARCHIVES
    return place.parent if is_module or (place / "__init__.py").exists() else place


def absent(
    sources: Sequence[str], entry: Mapping[str, Any], restored: Restored, cwd: Path
) -> dict[Path, Path]:
    """Return which paths of data are to be put where: those that lay in the code, or below the old folder.

    What is there already stays, and what lies elsewhere is found where it was.
    """
    was = started_in(entry)
    found: dict[Path, Path] = {}
    for source in sources:
        place = restored.place_of(source)
        if place is None and was and _is_below(source, was):
            place = cwd / os.path.relpath(source, was)
        if place is not None:
            found.update(_absent(place, Path(source)))
    return found


def _absent(place: Path, source: Path) -> Iterator[tuple[Path, Path]]:
    """What is to be put so that a place holds what the source holds; what is there stays."""
    if not os.path.lexists(place):
        if source.exists():
            yield place, source
    elif place.is_dir() and source.is_dir():  # a folder of data with a README in git
        for one in sorted(source.iterdir()):
            yield from _absent(place / one.name, one)


def _moved(argument: str, restored: Restored) -> str | Path:
    """An argument; of a folder of then that holds a program (`python FOLDER`), where it lies now."""
    place = restored.place_of(argument)
    return place if place is not None and (place / "__main__.py").exists() else argument


def _with_script(
    entry: Mapping[str, Any], arguments: list[str], restored: Restored, python: Path
) -> list[str]:
    target, was = str(entry.get("target", "")), started_in(entry)
    if _is_tool(entry, target):
        place: Path | None = python.parent / os.path.basename(target)  # noqa: PTH119 - a text
    else:
        place = restored.place_of(str(entry.get("resolved") or target)) or restored.place_of(target)
    if place is None:
        raise UsageError(_give_it(f"its script {target} is not part of the captured code"))
    for at, argument in enumerate(arguments):
        if _names(argument, was, target):
            return [*arguments[:at], str(place), *arguments[at + 1 :]]
    raise UsageError(_give_it(f"its command {arguments} does not name its script {target}"))


def _names(argument: str, cwd: str, target: str) -> bool:
    return os.path.normpath(os.path.join(cwd, argument)) == os.path.normpath(target)  # noqa: PTH118 - texts


def _is_tool(entry: Mapping[str, Any], target: str) -> bool:
    """Tell whether the script came with the environment, such as `torchrun`."""
    return os.path.dirname(target) == os.path.dirname(str(entry.get("executable", "")))  # noqa: PTH120 - texts


def _call(entry: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    module, _, name = str(entry.get("function") or "").partition(":")
    if not module or module == "__main__" or "<locals>" in name:
        raise UsageError(_give_it("it was typed at a prompt"))
    lost = [key for key, value in params.items() if not key.isidentifier() or not _is_literal(value)]
    if lost:
        raise UsageError(
            _give_it(f"the record holds no value to call {name} with again for {', '.join(lost)}")
        )
    return f"import importlib; importlib.import_module({module!r}).{name}(**{dict(params)!r})"


def _is_literal(value: object) -> bool:
    """Tell whether a param's repr is the param: secrets were taken out, and nan is no name of Python's."""
    if isinstance(value, list):
        return all(map(_is_literal, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return (
        value is None or isinstance(value, bool | int) or (isinstance(value, str) and REDACTED not in value)
    )


def _give_it(reason: str) -> str:
    return f"it cannot be started as it was: {reason} - type: mlobs reproduce RUN -- python train.py ..."


def _is_below(path: str, folder: str) -> bool:
    return bool(folder) and (path == folder or path.startswith(folder.rstrip(os.sep) + os.sep))
