"""Do a run again from its record, and say whether the results are the same."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

from mlobs.errors import MlobsError, UsageError
from mlobs.read.location import StoreLike
from mlobs.read.record import RunRecord
from mlobs.repro.causes import causes, code_changes, spread
from mlobs.repro.comparison import Comparison, Tolerance, compare
from mlobs.repro.data_check import DataCheck, check_data
from mlobs.repro.launch import launch_environment, unwinding
from mlobs.repro.lending import lend, links_outside
from mlobs.repro.live_code import live_code
from mlobs.repro.material import Material, readable
from mlobs.repro.program import Restored, absent, command_of, folder_of, import_path, started_in
from mlobs.repro.report import ReproReport
from mlobs.repro.rerun import Repetition, own_package, repeat, variables_of
from mlobs.repro.verdict import judge
from mlobs.repro.whole_run import load_whole_run
from mlobs.repro.wishes import EnvironmentChoice, Wishes, fresh_folder
from mlobs.secrets import public_arguments


def reproduce(  # noqa: PLR0913 - each is an option of the command, and has its default
    run: str,
    *,
    store: StoreLike = None,
    env: EnvironmentChoice = "auto",
    data: Literal["check", "skip"] = "check",
    repeat: int = 2,
    rtol: float = 1e-6,
    atol: float = 0.0,
    tolerances: Mapping[str, float] | None = None,
    dest: str | os.PathLike[str] | None = None,
    command: Sequence[str] = (),
    link: Sequence[str] = (),
    check_only: bool = False,
    tell: Callable[[str], None] | None = None,
) -> ReproReport:
    """Run a program again from the record of one of its runs, and compare params, data, metrics and models.

    The code is restored into a fresh folder, the environment is made again where it is not the one of
    now, datasets are checked, and the same program is started with the same arguments. What it records goes
    into a store of its own; no backend hears of it. If the result is not the same to the last bit, it is
    run once more, to tell a program that is not deterministic from an environment that computes otherwise.

    Args:
        run: an id, the beginning of one, or "latest".
        store: where the record lies.
        env: "recreate" makes the environment again, "current" takes this one, "auto" makes it again if
            this one is another.
        data: "skip" does not compare datasets with their fingerprints before.
        repeat: how often it is run at most; a run that is identical is not repeated.
        rtol: how far values may be apart, relatively, to be equivalent.
        atol: how far they may be apart absolutely.
        tolerances: another rtol for single metrics, by name.
        dest: a folder that does not exist yet, for code, environment and output; left out, a temporary
            one, which is kept if anything was run and the verdict is not identical.
        command: what to start instead of the recorded command, as a list.
        link: paths in the old working directory that the program needs and git ignores.
        check_only: check code, environment and data, and run nothing.
        tell: is told what is being done, a line each.

    Raises:
        UsageError: there is no such run, or `dest` exists.
        StoreError: there is no such store.
    """
    if repeat < 1:
        raise UsageError(f"repeat is {repeat}; expected 1 or more")
    wishes = Wishes(
        env=env,
        check_data=data == "check",
        repeat=repeat,
        tolerance=Tolerance(rtol, atol, dict(tolerances or {})),
        dest=None if dest is None else Path(dest).absolute(),
        command=tuple(command),
        link=tuple(link),
        check_only=check_only,
    )
    tell = tell or _silently
    with unwinding():
        return _Reproduction(Material.of(load_whole_run(run, store, tell)), wishes, tell).report()


class _Reproduction:
    """The steps, in order; what stands in the way is gathered as an obstacle."""

    def __init__(self, material: Material, wishes: Wishes, tell: Callable[[str], None]) -> None:
        self._material, self._wishes, self._tell = material, wishes, tell
        self._folder = fresh_folder(wishes.dest)
        self._checks: list[str] = []
        self._notes: list[str] = []
        self._obstacles: list[str] = []
        self._causes: list[str] = []
        self._data = DataCheck()
        self._restored: Restored | None = None
        self._repetitions: list[Repetition] = []
        self._comparisons: list[Comparison] = []

    def report(self) -> ReproReport:
        started = time.perf_counter()
        try:
            try:
                self._prepare_and_repeat()
            except MlobsError as error:
                self._obstacles.append(readable(error))
            report = self._judged(time.perf_counter() - started)
        except BaseException:  # Ctrl-C, SIGTERM: who stops it has no use for a half
            self._tidy_up()
            raise
        if report.folder is None:
            self._tidy_up()
        return report

    def _tidy_up(self) -> None:
        if self._wishes.dest is None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _prepare_and_repeat(self) -> None:
        material, wishes = self._material, self._wishes
        self._look_at_launch()
        self._obstacles += [] if wishes.command else material.missing()
        self._obstacles += [*material.edited(), *material.changed_since()]
        self._notes += material.written()
        self._restored = restored = self._restore()
        python = self._environment()
        cwd = folder_of(material.entry, restored, self._folder / "cwd")
        cwd.mkdir(parents=True, exist_ok=True)
        self._lend(restored, cwd)
        if wishes.check_data:
            self._data = check_data(material.run.datasets, self._tell)
            self._checks += self._data.confirmed
            self._notes += self._data.unchecked
        command = list(wishes.command) or command_of(
            material.entry, restored, python, material.run.params, self._cells()
        )
        if wishes.check_only:
            self._checks.append(f"it can be started: {' '.join(public_arguments(command))}")
            return
        for number in range(1, wishes.repeat + 1):
            if self._repeat(command, cwd, self._variables(restored, python), number):
                return

    def _cells(self) -> Path | None:
        """Copy a notebook's cells here: where they are kept is no place to run."""
        executed = self._material.executed
        if executed is None:
            return None
        place = self._folder / "cells"
        place.mkdir()
        return shutil.copyfile(executed, place / "executed.py")

    def _look_at_launch(self) -> None:
        """Refuse what one program alone cannot repeat; note what it can, but did not do at once."""
        run, start = self._material.run, self._material.root.start
        if run.status == "RUNNING":
            raise UsageError(f"run {run.run_id} is still running - wait for its end, or type: mlobs repair")
        ranks = start.world_size if start is not None else 1
        if ranks > 1 and not self._wishes.command:
            raise UsageError(
                f"the run had {ranks} ranks, and the record does not say what launched them - type:"
                f" mlobs reproduce {run.run_id} -- torchrun --nproc-per-node {ranks} train.py"
            )
        if run.latest is not None and run.latest.attempt > 1:
            self._notes.append(
                f"the run was resumed, {run.latest.attempt} attempts in all: the program runs through at once"
            )

    def _restore(self) -> Restored:
        roots, place = self._material.roots, self._folder / "code"
        if not roots:
            place.mkdir(parents=True)
            return Restored(place, ())
        self._tell(f"restoring the code into {place}")
        self._material.restore(place)
        self._checks.append(f"the code was restored: tree {roots[0].tree[:12]}, as recorded")
        return Restored(place, roots)

    def _environment(self) -> Path:
        from mlobs.repro.environment import capture_environment

        record, choice = self._material.environment, self._wishes.env
        here = Path(sys.executable)
        if record is None or choice == "current":
            return here
        if choice == "auto" and capture_environment().digest == record.digest:
            self._checks.append(
                "this environment is the recorded one: same Python, same packages, same files"
            )
            return here
        from mlobs.repro.recreate import recreate

        self._tell(f"making the environment again: {len(record.packages)} packages")
        made = recreate(record, self._folder / "venv", log=self._folder / "environment.log")
        absent = [one for one in made.missing if not one.lower().startswith("mlobs")]
        self._causes += [f"environment: {one}" for one in (*made.differing, *absent)]
        if not self._causes:
            self._checks.append(f"the environment was made again in {made.seconds:.1f} s")
        return made.python

    def _variables(self, restored: Restored, python: Path) -> dict[str, str]:
        recorded = self._material.entry.get("environment", {})
        variables = variables_of(recorded, os.environ)
        if "MLOBS_SEED" in recorded or self._material.seed is not None:
            variables = {**launch_environment({}, self._material.seed), **variables}
        own = own_package(self._folder / "mlobs-itself")
        path = import_path(recorded, restored, self._material.import_roots, own)
        programs = os.pathsep.join([str(python.parent), variables.get("PATH", os.defpath)])
        return {**variables, "PYTHONPATH": path, "PATH": programs}

    def _lend(self, restored: Restored, cwd: Path) -> None:
        """Put data into the restored folder: datasets, what was not packed, and what was asked for."""
        entry, material = self._material.entry, self._material
        sources = [one.source for one in material.run.datasets if one.source and "://" not in one.source]
        files = [(root.path, one.path) for root in restored.roots for one in root.excluded]
        sources += [os.path.join(*one) for one in files if not one[1].endswith("/")]  # noqa: PTH118 - texts
        sources += [one.path for one in material.uncaptured]
        linked = [os.path.join(started_in(entry), one) for one in self._wishes.link]  # noqa: PTH118 - texts
        try:
            self._notes += lend(absent(linked, entry, restored, cwd), max_bytes=0)
            self._notes += lend(absent(sources, entry, restored, cwd))
            self._notes += links_outside(restored.folder)
        except OSError as error:
            raise UsageError(f"the program's data cannot be put into {restored.folder}: {error}") from error

    def _repeat(self, command: Sequence[str], cwd: Path, variables: Mapping[str, str], number: int) -> bool:
        """Run it once more; True when there is no use in another time."""
        place = self._folder / f"repetition-{number}"
        done = repeat(command, cwd, variables, place, self._material.run, self._tell)
        self._repetitions.append(done)
        if done.problem is not None:
            self._obstacles.append(done.problem)
        if done.run is None or done.problem is not None:
            return True
        self._comparisons.append(compare(self._material.run, done.run, self._wishes.tolerance))
        return self._comparisons[-1].is_identical

    def _judged(self, seconds: float) -> ReproReport:
        runs = [one.run for one in self._repetitions if one.run is not None]
        among = [compare(*pair, self._wishes.tolerance) for pair in combinations(runs, 2)]
        changed = [*self._data.changed, *self._other_code(runs)]
        is_identical = bool(self._comparisons) and all(one.is_identical for one in self._comparisons)
        unknown = () if is_identical else self._material.unread()
        verdict = judge(self._comparisons, among, [*self._obstacles, *unknown])
        if changed:
            verdict = "inputs-differ"
        shown = self._comparisons[0] if self._comparisons else None
        doubts = shown.uncertain if shown and not shown.is_identical else ()
        is_worth_a_look = verdict != "identical" and (self._repetitions or self._causes)
        return ReproReport(
            verdict=verdict,
            run_id=self._material.run.run_id,
            repetitions=tuple(one.run_id for one in runs),
            checks=tuple(self._checks),
            notes=tuple(self._notes),
            obstacles=(*self._obstacles, *unknown, *doubts),
            inputs=tuple(dict.fromkeys([*changed, *((*shown.params, *shown.datasets) if shown else ())])),
            results=(*shown.unmatched, *shown.model_differences) if shown else (),
            causes=tuple(self._likely(runs, shown)),
            first_divergence=shown.first_divergence() if shown else None,
            divergences=shown.divergences if shown else (),
            spread=tuple(spread(self._material.run, runs)) if verdict == "nondeterministic" else (),
            points=shown.points if shown else 0,
            models=shown.models if shown else 0,
            ignored=shown.ignored if shown else (),
            folder=str(self._folder) if self._wishes.dest or is_worth_a_look else None,
            seconds=round(seconds, 2),
            is_check_only=self._wishes.check_only,
        )

    def _other_code(self, runs: Sequence[RunRecord]) -> list[str]:
        """Which code repetitions took from elsewhere, as another command may.

        What was restored is as recorded, which was checked then; data lies beside it now.
        """
        if not runs or self._restored is None:
            return []
        again = Material.of(runs[0])
        is_restored = any(one.path.startswith(str(self._folder.resolve())) for one in again.roots)
        live = [line for run in runs for line in live_code(self._restored, run)]
        return [*dict.fromkeys(live), *([] if is_restored else code_changes(self._material, again))]

    def _likely(self, runs: Sequence[RunRecord], shown: Comparison | None) -> list[str]:
        if shown is None or shown.is_identical or not runs:
            return self._causes
        return [*self._causes, *causes(self._material, Material.of(runs[0]), has_same_code=True)]


def _silently(_text: str) -> None:
    """Tell nobody."""
