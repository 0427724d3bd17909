"""How a program was started: what has to be typed to start it again."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from mlobs.repro.variables import recorded_environment
from mlobs.secrets import public_arguments
from mlobs.values import text_of

ENTRY = "entry"  # the part of the snapshot


def entry_facts(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return what started this process, as plain values without secrets; 0.1 ms.

    - `kind`: "script" (`target` is its absolute path, `resolved` the same
      without links, if it has any), "module" (`python -m target`), "command"
      (`python -c`), "notebook" (`target` is its path, if anybody knows it) or "interactive".
    - `command`: the interpreter's own arguments and the program's, in order. `is_redacted`: a
      secret was taken out of it, so it cannot be typed again as it stands.
    - `cwd`, `executable`, and `environment`: the variables that may change what is computed.
    """
    given = list(getattr(sys, "orig_argv", sys.argv) if arguments is None else arguments)
    main = sys.modules.get("__main__")
    kind, target = _kind(main, given)
    resolved = text_of(os.path.realpath(target)) if kind == "script" else target
    command = public_arguments([text_of(one) for one in given])
    return {
        "kind": kind,
        "target": target,
        **({"resolved": resolved} if resolved != target else {}),
        "cwd": text_of(os.getcwd()),  # noqa: PTH109 - a text is wanted
        "executable": text_of(sys.executable or ""),
        "command": list(command),
        "is_redacted": list(command) != [text_of(one) for one in given],
        "environment": recorded_environment(os.environ if environment is None else environment),
    }


def _kind(main: ModuleType | None, arguments: Sequence[str]) -> tuple[str, str]:
    """What kind of program this is, and which one."""
    if _is_notebook():
        return "notebook", _notebook_path()
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return "module", str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    if file:
        return "script", text_of(os.path.abspath(file))  # noqa: PTH100 - a link stays one
    return ("command", "-c") if "-c" in arguments[1:] else ("interactive", "")


def _is_notebook() -> bool:
    """Tell whether a kernel runs this code: the shell of a terminal has none."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return getattr(shell, "kernel", None) is not None


def _notebook_path() -> str:
    """The notebook's file: Jupyter's server says it in the environment, VS Code in the namespace."""
    namespace = vars(sys.modules["__main__"])
    return str(os.environ.get("JPY_SESSION_NAME") or namespace.get("__vsc_ipynb_file__") or "")
