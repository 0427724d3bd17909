"""The code of a notebook as it was executed: its cells in the order in which they ran."""

from __future__ import annotations

import ast
import json
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlobs.repro.code_secrets import redacted

_MAGIC = ("%", "!", "?")  # lines that IPython reads and Python cannot
_AROUND_PYTHON = ("%%time", "%%capture", "%%prun")  # what is below runs once, as it stands


@dataclass(frozen=True)
class Notebook:
    """The cells that ran in this kernel, without secrets; the running one is the last.

    `cells` has the number that IPython gave, and the source. `path` is the notebook's file, if the front end
    says which. `is_out_of_order`: not every cell ran once, from top to bottom - running the notebook again
    need not give the same. Without the file it is judged by repeated cells alone.
    """

    cells: tuple[tuple[int, str], ...]
    path: Path | None
    is_out_of_order: bool

    @property
    def script(self) -> str:
        """The cells as one Python file, `# %%` before each; lines that only IPython reads do nothing."""
        return "\n".join(f"# %% [{number}]\n{_as_python(source)}\n" for number, source in self.cells)


def executed_notebook() -> Notebook | None:
    """Return what ran in this process's notebook; None if it is no notebook.

    The IPython shell of a terminal counts as one. After `%reset` only what ran since is known.
    """
    shell = _shell()
    if shell is None:
        return None
    history = shell.history_manager.get_range(0, raw=True, output=False)
    cells = [(number, source) for _session, number, source in history if source.strip()]
    path = _path(shell)
    public = tuple((number, redacted(source)) for number, source in cells)
    return Notebook(public, path, _is_out_of_order([source for _number, source in cells], path))


def _shell() -> Any:
    """IPython's shell, if it runs: never imported here."""
    ipython = sys.modules.get("IPython")
    ask = getattr(ipython, "get_ipython", None)
    shell = ask() if ask is not None else None
    return shell if getattr(shell, "history_manager", None) is not None else None


def _path(shell: Any) -> Path | None:
    """The notebook's file, as Jupyter's server or VS Code tell it."""
    named = shell.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    path = Path(named) if isinstance(named, str) and named.endswith(".ipynb") else None
    return path.absolute() if path is not None and path.is_file() else None


def _is_out_of_order(executed: Sequence[str], path: Path | None) -> bool:
    if path is None:
        return len(set(executed)) != len(executed)
    try:
        wanted = _cells_of(path)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ):  # being saved, or of no known form: judged as without it
        return len(set(executed)) != len(executed)
    position = 0
    for source in executed:  # each is looked for below the one before; an edited cell is not found
        if source.strip() not in wanted[position:]:
            return True
        position = wanted.index(source.strip(), position) + 1
    return any(
        wanted[: position - 1][index] not in {one.strip() for one in executed}
        for index in range(position - 1)
    )


def _cells_of(path: Path) -> list[str]:
    """The sources of the code cells that are not empty (nbformat 4)."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(one["source"]).strip() for one in cells if one["cell_type"] == "code"]
    return [source for source in sources if source]


def _as_python(source: str) -> str:
    if _is_python(source):
        return source
    lines = source.strip("\n").splitlines()
    magic = lines[0].split()[0] if lines and lines[0].startswith("%%") else ""
    if magic and magic not in _AROUND_PYTHON:  # another language
        return "\n".join(f"# {line}" for line in lines)
    return "\n".join(_python_line(line) for line in lines)


def _python_line(line: str) -> str:
    """A line of IPython's own as one that does nothing, and may be all that is in a block."""
    code = line.lstrip()
    return f"{line[: len(line) - len(code)]}pass  # {code}" if code.startswith(_MAGIC) else line


def _is_python(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape was warned about when the cell ran
            ast.parse(source)
    except (SyntaxError, ValueError):  # ValueError: a null character
        return False
    return True
