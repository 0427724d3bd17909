"""The tracker: settings, store and backends, checked once; it starts runs."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, overload

from mlobs.backend import Backend
from mlobs.config import Settings, load_settings, working_directory
from mlobs.decorator import LogReturn, tracked
from mlobs.delivery.registry import can_travel, missing_package, public_spec, resolve, spec_of
from mlobs.errors import MissingPackage, UsageError
from mlobs.events import BackendSpec
from mlobs.joining import begin_ranked
from mlobs.journal.format import encode
from mlobs.journal.store import Store
from mlobs.ledger import OnConflict
from mlobs.opened import Opened
from mlobs.opening import NEW, Plan, can_sample
from mlobs.resuming import Resume, Wish, not_opened, wish_of
from mlobs.run import Run
from mlobs.troubles import OnError, log

Function = TypeVar("Function", bound=Callable[..., Any])
Arguments = ParamSpec("Arguments")


def _suggesting(method: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Refuse a misspelt keyword by naming the one that is meant: Python itself does so from 3.13 on."""
    known = tuple(inspect.signature(method).parameters)[1:]

    @functools.wraps(method)
    def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        for name in kwargs.keys() - set(known):
            import difflib

            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}= ?" if close else f"it takes {', '.join(known)}"
            raise UsageError(f"Tracker takes no {name!r} - {hint}")
        method(*args, **kwargs)

    return checked


class Tracker:
    """Starts runs of one experiment, recorded in one store and sent to the named backends.

    What is left out comes from `MLOBS_*`, then from `mlobs.toml` or `[tool.mlobs]`, then from the
    defaults; `mlobs config` shows each value with its origin.

    Args:
        experiment: groups runs that belong together.
        backends: names such as "mlflow", or objects such as `mlobs.backends.MLflow(...)`. None
            named: the local store alone.
        store: the folder of the record.
        mode: "online"; "offline" sends nothing until `mlobs sync`; "disabled" records nothing.
        delivery: "process" sends from a process of its own, "thread" from threads of this one.
        ranks: of the processes that a launcher such as torchrun starts, "zero": only rank 0 records;
            "all": all record into one run; "each": each has runs of its own.
        on_error: "warn", or "raise" for tests: what a call does that cannot record its value.
        on_conflict: what counts when a parameter changes: "keep_first", "overwrite" or "raise".
        finish_timeout_s: seconds that this process may wait for delivery, in all.
        capture_logs: True records what reaches the root logger, "all" also what is printed.
        system_metrics: the sender records the load of the program and its machine, under `system/`.
        system_metrics_s: seconds between two samples of it, 0.5 or more.
        repro: what is kept of a run's code and environment, so that `mlobs reproduce` can run it again:
            "auto" what changed since it was pushed, "full" all of it, "off" nothing.

    Raises:
        UsageError: an unknown backend, option or value; the message says what to type.
        StoreError: the store cannot be written.
    """

    @_suggesting
    def __init__(  # noqa: PLR0913 - each is a setting, and has its default
        self,
        experiment: str | None = None,
        *,
        backends: Iterable[str | Backend] | None = None,
        store: str | os.PathLike[str] | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
        delivery: Literal["process", "thread"] | None = None,
        ranks: Literal["zero", "all", "each"] | None = None,
        on_error: OnError | None = None,
        on_conflict: OnConflict | None = None,
        finish_timeout_s: float | None = None,
        capture_logs: bool | Literal["all"] | None = None,
        system_metrics: bool | None = None,
        system_metrics_s: float | None = None,
        repro: Literal["auto", "full", "off"] | None = None,
    ) -> None:
        self.settings: Settings = load_settings(
            cwd=working_directory(),
            env=os.environ,
            experiment=experiment,
            store=store,
            mode=mode,
            delivery=delivery,
            ranks=ranks,
            on_error=on_error,
            on_conflict=on_conflict,
            finish_timeout_s=finish_timeout_s,
            capture_logs=capture_logs,
            system_metrics=system_metrics,
            system_metrics_s=system_metrics_s,
            repro=repro,
        )
        self.experiment = self.settings.experiment
        self._plan = _plan(self.settings, self.settings.backends if backends is None else backends)

    def start_run(
        self,
        name: str | None = None,
        *,
        params: object = None,
        tags: Mapping[str, object] | None = None,
        experiment: str | None = None,
        resume: Resume = "never",
        run_id: str | None = None,
        from_step: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> Run:
        """Open a run and make it current; as a context manager it ends itself, with an honest status.

        Inside an open run it is an independent run; `Run.child` nests.

        Args:
            name: what people call the run.
            params: recorded at once, see `Run.log_params`.
            tags: recorded at once.
            experiment: another than the tracker's.
            resume: what to do if the run `run_id` exists: "never" refuses, "allow" goes on with it,
                "must" goes on and refuses if it does not exist. "auto" goes on with this job's run
                of that name: it finds the job's id in the environment.
            run_id: the run's id; left out, a new one.
            from_step: go back: what an earlier attempt recorded from this step on no longer counts.
            state: what `Run.state_dict` returned, from a checkpoint: go on with that run from that
                moment, whatever `from_step` says. None: there is no checkpoint yet.

        Raises:
            UsageError: the run exists and must not, or must and does not, or a process that lives
                is recording it; the message says what to type.
        """
        wanted = experiment or self.experiment
        wish = wish_of(resume, run_id, from_step, state, wanted, name)
        return self._start(name, params, tags, wanted, wish)

    def _start(
        self,
        name: str | None,
        params: object = None,
        tags: Mapping[str, object] | None = None,
        experiment: str | None = None,
        wish: Wish = NEW,
        *,
        function: str | None = None,
    ) -> Run:
        """Open a run; `function` is the tracked one whose call it is."""
        try:
            plan, begun = begin_ranked(self._plan, experiment or self.experiment, name, wish)
        except Exception:
            not_opened(wish)
            raise
        return Run(Opened(plan, begun, function=function), params, tags)

    @overload
    def track(self, function: Function) -> Function: ...

    @overload
    def track(
        self, *, name: str | None = None, log_return: LogReturn = "metrics"
    ) -> Callable[[Function], Function]: ...

    def track(
        self, function: Function | None = None, *, name: str | None = None, log_return: LogReturn = "metrics"
    ) -> Function | Callable[[Function], Function]:
        """Decorate a train function: each call becomes a run, or a child of the current one.

        The call's arguments become params (nested configs under dotted names), the numbers of a
        mapping that it returns become final metrics, and a parameter named `run` receives the Run.
        Arguments that are data (frames, arrays, paths of what exists) become datasets too, with a
        fingerprint taken in at most 0.1 s in all. `log_return="models"` records the estimators that are
        returned, "all" both, None nothing. Plain, async and generator functions return what they
        returned before.
        """

        def start(run_name: str, params: Mapping[str, Any], called: str) -> Run:
            return self._start(run_name, params, function=called)

        def decorate(inner: Function) -> Function:
            return tracked(inner, start, name=name, log_return=log_return)

        return decorate if function is None else decorate(function)


def _plan(settings: Settings, backends: Iterable[str | Backend]) -> Plan:
    found = resolve(backends, settings.backend_options, travels=settings.delivery == "process")
    if settings.mode == "disabled":
        return Plan(settings, None, found, ())
    store = Store(Path(settings.store))
    store.create()
    specs = tuple(_recordable(public_spec(spec_of(backend))) for backend in found if can_travel(backend))
    for backend in found:
        missing = missing_package(backend)
        if missing is not None:
            log.warning("backend %s: %s; until then its events wait in the store", backend.name, missing)
    if settings.system_metrics:
        _say_what_is_not_sampled(settings)
    return Plan(settings, store, found, specs)


def _say_what_is_not_sampled(settings: Settings) -> None:
    if settings.mode == "offline":
        log.warning("system_metrics: offline there is no sender, so the load is not sampled")
    elif not can_sample():
        log.warning(
            "system_metrics: %s; until then the load is not sampled", MissingPackage("psutil", "system")
        )


def _recordable(spec: BackendSpec) -> BackendSpec:
    """The backend as the run's first event names it."""
    try:
        encode(spec)
    except UnicodeEncodeError as error:
        raise UsageError(
            f"backend {spec.name}: {error.object!a} is not UTF-8, so the record cannot name it"
            " - give the backend another path"
        ) from error
    return spec
