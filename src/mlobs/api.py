"""The module-level way in: runs of a tracker made from the settings, and calls to the current run."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from mlobs.config import working_directory
from mlobs.decorator import LogReturn, tracked
from mlobs.journal.process import is_data_worker
from mlobs.program import program
from mlobs.resuming import Resume
from mlobs.run import Run, current_run
from mlobs.tracker import Tracker
from mlobs.troubles import Troubles

if TYPE_CHECKING:
    from mlobs.repro.seeds import Deterministic, SeedReport

Function = TypeVar("Function", bound=Callable[..., Any])
Arguments = ParamSpec("Arguments")

_troubles = Troubles()


def start_run(
    name: str | None = None,
    *,
    experiment: str | None = None,
    params: object = None,
    tags: Mapping[str, object] | None = None,
    resume: Resume = "never",
    run_id: str | None = None,
    from_step: int | None = None,
    state: Mapping[str, Any] | None = None,
) -> Run:
    """Open a run on the default tracker (environment, config file, defaults); see `Tracker.start_run`."""
    return _default_tracker().start_run(
        name,
        experiment=experiment,
        params=params,
        tags=tags,
        resume=resume,
        run_id=run_id,
        from_step=from_step,
        state=state,
    )


@overload
def track(function: Function) -> Function: ...


@overload
def track(
    *, experiment: str | None = None, name: str | None = None, log_return: LogReturn = "metrics"
) -> Callable[[Function], Function]: ...


def track(
    function: Function | None = None,
    *,
    experiment: str | None = None,
    name: str | None = None,
    log_return: LogReturn = "metrics",
) -> Function | Callable[[Function], Function]:
    """Decorate a train function on the default tracker, made at the first call; see `Tracker.track`."""

    def start(run_name: str, params: Mapping[str, Any], called: str) -> Run:
        return _default_tracker()._start(run_name, params, experiment=experiment, function=called)  # noqa: SLF001 - the module's own way in

    def decorate(inner: Function) -> Function:
        return tracked(inner, start, name=name, log_return=log_return)

    return decorate if function is None else decorate(function)


def _on_current(method: Callable[Concatenate[Run, Arguments], None]) -> Callable[Arguments, None]:
    """Make the module-level function of a method of `Run`: with no current run it warns once."""

    @functools.wraps(method)
    def function(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        run = current_run()
        if run is not None:
            method(run, *args, **kwargs)
        elif not is_data_worker():
            first = args[0] if args else ""
            key = first if isinstance(first, str) else ""  # once per name, not per mapping of values
            _troubles.report(f"mlobs.{method.__name__}", key, LookupError(_no_run()))

    signature = inspect.signature(method)
    _, *parameters = signature.parameters.values()  # `self` is the current run
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function


def _no_run() -> str:
    if len(program().runs) > 1:
        return "several runs are open and none is current here - call it on the Run object"
    return "no run is open - type: with mlobs.start_run(): ..."


def seed_everything(seed: int | None = None, *, deterministic: Deterministic = "warn") -> SeedReport:
    """Seed the random generators of Python and of every imported library, and ask for deterministic kernels.

    Libraries imported later are not seeded: call it after the imports. The seed is recorded in the current
    run, and in those that are opened later.

    Args:
        seed: 0 to 4294967295. None takes that of `mlobs run --seed`, else a fresh one; the report says which.
        deterministic: "off" changes no kernel; "warn" asks for deterministic ones and lets torch warn of
            operations that have none; "strict" makes those errors, in TensorFlow too. Both may be slower.

    Raises:
        UsageError: the seed is out of range, or `deterministic` is none of the three.
    """
    from mlobs.repro import seeds

    report = seeds.seed_everything(seed, deterministic=deterministic)
    run = current_run()
    if run is not None:
        run.note_seeding()
    return report


log_artifact = _on_current(Run.log_artifact)
log_artifacts = _on_current(Run.log_artifacts)
log_confusion_matrix = _on_current(Run.log_confusion_matrix)
log_dataset = _on_current(Run.log_dataset)
log_dict = _on_current(Run.log_dict)
log_figure = _on_current(Run.log_figure)
log_histogram = _on_current(Run.log_histogram)
log_image = _on_current(Run.log_image)
log_matrix = _on_current(Run.log_matrix)
log_metric = _on_current(Run.log_metric)
log_metrics = _on_current(Run.log_metrics)
log_model = _on_current(Run.log_model)
log_param = _on_current(Run.log_param)
log_params = _on_current(Run.log_params)
log_table = _on_current(Run.log_table)
log_text = _on_current(Run.log_text)
set_tag = _on_current(Run.set_tag)
set_tags = _on_current(Run.set_tags)


def _default_tracker() -> Tracker:
    """The tracker of the settings as they are now; a new one only when they changed."""
    variables = frozenset(item for item in os.environ.items() if item[0].startswith("MLOBS_"))
    return _tracker_for(working_directory(), variables)


@functools.lru_cache(maxsize=8)
def _tracker_for(cwd: Path, variables: frozenset[tuple[str, str]]) -> Tracker:
    del cwd, variables  # the keys: what the settings are made of
    return Tracker()
