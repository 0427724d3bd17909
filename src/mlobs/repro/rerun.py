"""One repetition of a program, recorded in a store of its own, and its run that corresponds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlobs.config import RERUN_VARIABLE
from mlobs.errors import UsageError
from mlobs.events import RunStarted
from mlobs.journal.store import Store
from mlobs.read.record import RunRecord, liveness, read_run
from mlobs.repro.launch import forwarding
from mlobs.repro.variables import is_recorded
from mlobs.repro.whole_run import when_captured
from mlobs.secrets import public_arguments

_TAIL_LINES = 15
_OF_LAUNCHERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "SLURM_")


@dataclass(frozen=True)
class Repetition:
    """What came of it: the exit code, the output's file, the run that corresponds, or why there is none."""

    exit_code: int
    output: Path
    run: RunRecord | None
    problem: str | None = None


def repeat(
    command: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    folder: Path,
    like: RunRecord,
    tell: Callable[[str], None],
) -> Repetition:
    """Run the program to its end and find the run that is to be compared with `like`.

    `folder` receives the store and the output. `tell` is told what is being done.

    Raises:
        UsageError: the program cannot be started.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store, output = Store(folder / "store"), folder / "output.log"
    variables = {**environment, RERUN_VARIABLE: str(store.path), "PYTHONUNBUFFERED": "1"}
    tell(f"running it again: {' '.join(public_arguments(command))}")
    exit_code = _run(command, cwd, variables, output)
    run = find_like(store, like)
    if run is None:
        problem = f"the repetition recorded no run like {like.name!r} (exit code {exit_code})"
        return Repetition(exit_code, output, None, f"{problem}{_last_words(output)}")
    run = when_captured(run)
    if run.status != like.status:
        reason = f" ({run.reason})" if run.reason else ""
        problem = f"the run ended {like.status}, its repetition {run.status}{reason}{_last_words(output)}"
        return Repetition(exit_code, output, run, problem)
    return Repetition(exit_code, output, run)


def _run(command: Sequence[str], cwd: Path, variables: Mapping[str, str], output: Path) -> int:
    """Run a command to its end; who stops this process stops the program first."""
    with output.open("wb") as file, forwarding() as forward:
        try:
            program = subprocess.Popen(  # noqa: S603 - the recorded program, which is what the user asked for
                list(command),
                cwd=cwd,
                env=dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        except OSError as error:
            raise UsageError(f"{command[0]!r} cannot be started: {error.strerror or error}") from error
        forward.to(program)
        exit_code = program.wait()
    forward.obey()
    return exit_code


def variables_of(recorded: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the repetition: those of now, and what was set then and is not set now.

    What is set now wins: it is somebody's wish to try another thread count or kernel, and it is named
    among the causes. Settings of mlobs are left out, and what a launcher sets for its ranks: it sets them
    again, and without it a rank would wait for the others for ever.
    """
    mine = {name: value for name, value in now.items() if not name.startswith("MLOBS_")}
    was = {name: value for name, value in recorded.items() if _is_given_again(name) and name not in mine}
    return {**mine, **was}


def _is_given_again(name: str) -> bool:
    return is_recorded(name) and not name.startswith(_OF_LAUNCHERS)


def find_like(store: Store, like: RunRecord) -> RunRecord | None:
    """Return the run of a repetition that corresponds: same name, same place in the program, same params.

    Runs that threads open at once may come in another order; then equal params tell which is which.
    """
    is_alive = liveness()
    found = [one for one in (read_run(folder, is_alive) for folder in store.runs()) if one is not None]
    found = [one for one in found if one.experiment == like.experiment and _is_named_like(one, like)]
    number = _number(like.start)

    def rank(one: RunRecord) -> tuple[bool, int]:
        return one.params != like.params, abs(_number(one.start) - number)

    return min(found, key=rank, default=None)


def _is_named_like(one: RunRecord, like: RunRecord) -> bool:
    has_own_name = like.name != f"run-{like.run_id.rpartition('-')[2]}"
    return (one.parent_run_id is None) == (like.parent_run_id is None) and (
        not has_own_name or one.name == like.name
    )


def _number(start: RunStarted | None) -> int:
    return start.number if start is not None else 0


def _last_words(output: Path) -> str:
    lines = output.read_text("utf-8", "replace").strip().splitlines()[-_TAIL_LINES:]
    return "".join(f"\n    {line}" for line in lines)


def own_package(folder: Path) -> Path:
    """Make a folder that holds mlobs alone, for an environment that it cannot be installed into."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "mlobs"
    package = Path(sys.modules["mlobs"].__file__ or "").parent
    if not os.path.lexists(link):
        link.symlink_to(package, target_is_directory=True)
    return folder
