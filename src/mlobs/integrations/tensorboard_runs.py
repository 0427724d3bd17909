"""Which run a SummaryWriter writes to, and under which names.

Inside of a run that is open, all writers write into it: the first under its tags as they are, another
folder's (`train/` and `val/`) with that folder before them. With none open, each writer opens a run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from mlobs.api import start_run
from mlobs.errors import MlobsError
from mlobs.read.frames import runs
from mlobs.run import Run, current_run

LOG_DIR_TAG = "tensorboard.log_dir"
_DEFAULT_ROOT = "runs"  # SummaryWriter's own; it says nothing about a run

_opened_here: WeakSet[Run] = WeakSet()
_first_folders: WeakKeyDictionary[Run, str] = WeakKeyDictionary()


@dataclass(frozen=True)
class Destination:
    """A run, and what stands before the names in it. `is_own`: the writer opened it, and ends it."""

    run: Run
    prefix: str = ""
    is_own: bool = False


def destination(log_dir: str, purge_step: int | None) -> Destination:
    """Find the run that is current, or open one; with `purge_step`, go on with the last of that folder."""
    run = current_run()
    if run is not None and run not in _opened_here:
        first = _first_folders.setdefault(run, log_dir)
        return Destination(run, prefix_of(first, log_dir))
    return Destination(_opened(log_dir, purge_step), is_own=True)


def reopened(run: Run) -> Run:
    """Go on with a run that its writer closed."""
    again = start_run(run.name, experiment=run.experiment, run_id=run.id, resume="must")
    _opened_here.add(again)
    return again


def run_name(log_dir: str) -> str:
    """Name a run after its writer's folder: `runs/exp1/train` is `exp1/train`."""
    parts = [part for part in PurePath(_relative(log_dir, ".")).parts if part not in ("..", ".")]
    if len(parts) > 1 and parts[0] == _DEFAULT_ROOT:
        del parts[0]
    return "/".join(parts) or PurePath(log_dir).name


def prefix_of(first: str, log_dir: str) -> str:
    """Return what tells a folder's names from those of the first: of `exp/train` and `exp/val`, `val/`."""
    if _relative(log_dir, first) == ".":
        return ""
    below = _relative(log_dir, first)
    path = below if not below.startswith("..") else _relative(log_dir, os.path.dirname(first) or ".")  # noqa: PTH120 - a Path drops a trailing dot
    return "/".join(part for part in PurePath(path).parts if part not in ("..", ".")) + "/"


def _opened(log_dir: str, purge_step: int | None) -> Run:
    known: dict[str, Any] = {}
    if purge_step is not None:
        known = _last_of(log_dir)
        if known:
            known |= {"resume": "must", "from_step": purge_step}
    run = start_run(run_name(log_dir), tags={LOG_DIR_TAG: log_dir}, **known)
    _opened_here.add(run)
    return run


def _last_of(log_dir: str) -> dict[str, Any]:
    """Find the last run of a writer with this folder in the store; empty if there is none."""
    try:
        frame = runs()
    except MlobsError:
        return {}  # no store yet
    column = f"tags.{LOG_DIR_TAG}"
    if column not in frame:
        return {}
    found = frame[frame[column] == log_dir]
    return {} if found.empty else {name: str(found.iloc[-1][name]) for name in ("run_id", "experiment")}


def _relative(path: str, start: str) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # on another drive of Windows
        return PurePath(path).name
