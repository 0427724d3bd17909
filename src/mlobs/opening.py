"""How a run begins: its facts, its folder, and its journal with its start in it."""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass
from time import time
from typing import Literal, NamedTuple

from mlobs.backend import Backend
from mlobs.config import Settings
from mlobs.errors import StoreError
from mlobs.events import BackendSpec, RunStarted
from mlobs.journal.process import this_process
from mlobs.journal.store import RunFolder, Store, new_run_id
from mlobs.journal.writer import AnyWriter, NullWriter, Writer
from mlobs.ledger import OnConflict
from mlobs.program import program
from mlobs.sending import Sending
from mlobs.troubles import caller, log
from mlobs.values import text_of
from mlobs.version import __version__


@dataclass(frozen=True)
class Plan:
    """What a tracker has settled for its runs. `store` is None when tracking is disabled."""

    settings: Settings
    store: Store | None
    backends: tuple[Backend, ...]
    public_specs: tuple[BackendSpec, ...]

    @property
    def on_error(self) -> Literal["warn", "raise"]:
        """What happens to a call that records nothing."""
        return self.settings.on_error

    @property
    def on_conflict(self) -> OnConflict:
        """What happens to a parameter that changes."""
        return self.settings.on_conflict

    def sending(self) -> Sending | None:
        """Who delivers; None if there is nothing to deliver to, or not now."""
        if self.store is None or not self.backends or self.settings.mode != "online":
            return None
        return program().sending(self.settings.delivery, self.store, self.settings.linger_s)


class Begun(NamedTuple):
    """A run that has begun. `folder` is None when it records nothing."""

    facts: RunStarted
    folder: RunFolder | None
    writer: AnyWriter


def begin(plan: Plan, experiment: object, name: object, *, parent_run_id: str | None = None) -> Begun:
    """Begin a run: its folder and its journal with its start, on the disk when this returns.

    A store that has become unwritable costs the record, not the training: the run is open and
    records nothing, and that is said.

    Raises:
        StoreError: only with `on_error="raise"`: the store cannot be written.
    """
    at = time()
    run_id = new_run_id(at)
    facts = RunStarted(
        at=at,
        run_id=run_id,
        experiment=text_of(experiment),
        name=("" if name is None else text_of(name)) or f"run-{run_id.rpartition('-')[2]}",
        process=this_process(),
        parent_run_id=parent_run_id,
        backends=plan.public_specs,
        mlobs_version=__version__,
        python_version=platform.python_version(),
        argv=_program_name(),
    )
    if plan.store is None:
        return Begun(facts, None, NullWriter())
    try:
        return Begun(facts, *_begun(plan.store, facts))
    except StoreError as error:
        if plan.on_error == "raise":
            raise
        log.warning("%s: nothing of run %s will be recorded: %s", caller(), facts.name, error)
        return Begun(facts, None, NullWriter())


def _begun(store: Store, facts: RunStarted) -> tuple[RunFolder, Writer]:
    """Make the folder and the journal of a run, or nothing at all.

    Raises:
        StoreError: the store cannot be written.
    """
    folder = store.new_run(facts.run_id)
    try:
        writer = Writer(folder.path, facts.run_id, is_opener=True)
        writer.append(facts)
    except StoreError:
        shutil.rmtree(folder.path, ignore_errors=True)  # a run without a start would only be in the way
        raise
    return folder, writer


def _program_name() -> tuple[str, ...]:
    """What was called, without its arguments: they may hold secrets; the snapshot redacts them first."""
    return tuple(text_of(one) for one in getattr(sys, "argv", ())[:1])
