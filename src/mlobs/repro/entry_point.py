"""What was started, wherever the code lies: the same on every machine that has the same code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mlobs.repro.code_root import CodeRoot, place_of
from mlobs.repro.program import started_in

_HARMLESS = ("-u",)  # options of Python that change no result


def entry_point(facts: Mapping[str, Any], roots: Sequence[CodeRoot]) -> dict[str, Any]:
    """Return the entry point: kind, target, function, the arguments of the program and of Python, folders.

    Paths in a root are told by their place in it. `folder` is where the program was started, where a
    relative name of its script tells; `path` are the entries of PYTHONPATH.
    """
    target = str(facts.get("resolved") or facts.get("target", ""))
    name = _last_part(str(facts.get("target", "")))
    if facts.get("kind") == "notebook":  # its kernel's arguments are names of temporary files
        return {"kind": "notebook", "target": name}
    command = list(facts.get("command", ()))
    found = next((at for at, one in enumerate(command) if at and _last_part(one) == name), 0)
    return {
        "kind": facts.get("kind"),
        "target": place_of(roots, target) or name,
        "function": facts.get("function"),
        "arguments": command[found + 1 :],
        "options": [one for one in command[1:found] if one not in _HARMLESS],
        "folder": _folder(facts, roots) if found else None,
        "path": _import_path(facts, roots),
    }


def _folder(facts: Mapping[str, Any], roots: Sequence[CodeRoot]) -> str | None:
    """Where a script was started by a relative name, unless at the top: others may have gone there since."""
    target = os.path.normpath(str(facts.get("target", "")))
    if facts.get("kind") != "script" or target in map(os.path.normpath, facts["command"][1:]):
        return None
    place = place_of(roots, started_in(facts))
    return None if place == "." else place


def _import_path(facts: Mapping[str, Any], roots: Sequence[CodeRoot]) -> list[str]:
    entries = facts.get("environment", {}).get("PYTHONPATH", "").split(os.pathsep)
    whole = [os.path.normpath(os.path.join(started_in(facts), one)) for one in entries if one]  # noqa: PTH118 - texts
    return [place for one in whole if (place := place_of(roots, one)) is not None]


def _last_part(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]
