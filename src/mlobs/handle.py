"""What another process needs to know of a run in order to record into it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from mlobs.backend import Backend
from mlobs.config import load_settings, working_directory
from mlobs.delivery.registry import build
from mlobs.errors import UsageError
from mlobs.events import BackendSpec
from mlobs.joining import join
from mlobs.journal.store import Store
from mlobs.opened import Opened
from mlobs.opening import Plan, facts_here
from mlobs.ranks import rank_of
from mlobs.resuming import Wish
from mlobs.troubles import log

_SETTINGS = (
    "mode",
    "delivery",
    "on_error",
    "on_conflict",
    "finish_timeout_s",
    "hang_timeout_s",
    "linger_s",
    "secrets_allow",
    "capture_logs",
)


class Carried(msgspec.Struct, frozen=True):
    """A run as plain data, without secrets. `store` is None when the run records nothing."""

    run_id: str
    experiment: str
    name: str
    parent_id: str | None
    store: str | None
    backends: tuple[BackendSpec, ...]
    settings: dict[str, Any]


def carried(opened: Opened) -> Carried:
    """Say what others need to know. Backends that live in this process alone are left out."""
    facts, plan = opened.facts, opened.plan
    return Carried(
        run_id=facts.run_id,
        experiment=facts.experiment,
        name=facts.name,
        parent_id=facts.parent_run_id,
        store=None if plan.store is None else str(plan.store.path),
        backends=plan.public_specs,
        settings={name: getattr(plan.settings, name) for name in _SETTINGS},
    )


def attached(run: Carried, store: str | os.PathLike[str] | None) -> Opened:
    """Join the run with a journal of this process's own, in `store` or where the run's is.

    Secrets of the backends come from this process's environment and configuration file.

    Raises:
        UsageError: this process's configuration is wrong.
        StoreError: only with `on_error="raise"`: the store cannot be written.
    """
    here = load_settings(cwd=working_directory(), env=os.environ, store=store)
    place = here.store if store is not None else Path(run.store or here.store)
    settings = replace(here, **{**run.settings, "experiment": run.experiment, "store": place})
    found = tuple(_buildable(run.backends, here.backend_options))
    plan = Plan(settings, None if run.store is None else Store(place), found, run.backends)
    facts = facts_here(
        plan, run.experiment, run.name, run.parent_id, Wish(run_id=run.run_id), rank_of(os.environ)
    )
    return Opened(plan, join(plan, facts))


def _buildable(specs: tuple[BackendSpec, ...], options: Any) -> list[Backend]:
    """The backends that can be made here; the run's own program delivers to the others."""
    found = []
    for spec in specs:
        try:
            found.append(build(spec, options))
        except UsageError as error:
            log.warning("backend %s: this process cannot send to it: %s", spec.name, error)
    return found
