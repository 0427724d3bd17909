"""How a run begins: its facts, its folder, and its journal with its start in it."""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Literal, NamedTuple

import msgspec

from mlobs.backend import Backend
from mlobs.config import Settings
from mlobs.errors import StoreError, UsageError
from mlobs.events import BackendSpec, Rewind, RunStarted
from mlobs.journal.process import is_data_worker, this_process
from mlobs.journal.store import RunFolder, Store, new_run_id
from mlobs.journal.writer import AnyWriter, NullWriter, Writer
from mlobs.ledger import OnConflict
from mlobs.program import program
from mlobs.ranks import ALONE, Rank
from mlobs.resuming import Past, Wish, past_of_state
from mlobs.secrets import public_arguments
from mlobs.sending import UNWATCHED, Patience, Sending, Watch
from mlobs.troubles import caller, log
from mlobs.values import text_of
from mlobs.version import __version__

NEW = Wish()
OPENING_S = 10.0  # from a reserved attempt to its start in the journal; it takes about 1 ms


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

    @property
    def sample_every_s(self) -> float | None:
        """Seconds between two samples of the program's load; None if nobody samples it."""
        settings = self.settings
        is_wished = settings.system_metrics and settings.mode == "online"
        return settings.system_metrics_s if is_wished and can_sample() else None

    @property
    def watch(self) -> Watch:
        """What is recorded of the program beside what it logs."""
        return Watch(self.sample_every_s, self.settings.repro)

    @property
    def here(self) -> tuple[Backend, ...]:
        """The backends that runs are sent to now: none while offline."""
        return self.backends if self.settings.mode == "online" else ()

    def sending(self, watch: Watch = UNWATCHED) -> Sending | None:
        """Who delivers, and watches the program; None if there is nothing to do, or not now."""
        if self.store is None or not (self.here or watch.is_needed):
            return None
        patience = Patience(self.settings.linger_s, self.settings.hang_timeout_s)
        return program().sending(self.settings.delivery, self.store, patience)


@functools.cache  # to look through the import path takes 0.1 ms, and a sweep starts thousands of runs
def can_sample() -> bool:
    """Tell whether psutil is installed, which system metrics need; imports nothing."""
    return importlib.util.find_spec("psutil") is not None


class Begun(NamedTuple):
    """A run that has begun, or begun again. `folder` is None when it records nothing.

    `is_joined`: another process opens it, and ends it.
    """

    facts: RunStarted
    folder: RunFolder | None
    writer: AnyWriter
    past: Past = Past()
    is_joined: bool = False


def begin(
    plan: Plan,
    experiment: object,
    name: object,
    *,
    parent_run_id: str | None = None,
    wish: Wish = NEW,
    rank: Rank = ALONE,
) -> Begun:
    """Begin a run: its folder and its journal with its start, on the disk when this returns.

    A run that exists gets another journal, as the next attempt. A store that has become unwritable
    costs the record, not the training: the run is open and records nothing, and that is said. In a
    worker of PyTorch's DataLoader it records nothing either.

    Raises:
        UsageError: the run that is wished for exists and must not, or must and does not, or a
            process that lives is recording it.
        StoreError: only with `on_error="raise"`: the store cannot be written.
    """
    facts = facts_here(plan, experiment, name, parent_run_id, wish, rank)
    if plan.store is None or is_data_worker():
        return Begun(facts, None, NullWriter())
    try:
        if wish.run_id is not None:
            return _wished(plan.store, facts, wish)
        return Begun(facts, *_begun(plan.store, facts))
    except StoreError as error:
        if plan.on_error == "raise":
            raise
        log.warning("%s: nothing of run %s will be recorded: %s", caller(), facts.name, error)
        return Begun(facts, None, NullWriter())


def facts_here(
    plan: Plan,
    experiment: object,
    name: object,
    parent_run_id: str | None = None,
    wish: Wish = NEW,
    rank: Rank = ALONE,
) -> RunStarted:
    """What the run is, as far as this process knows."""
    at = time()
    run_id = wish.run_id or new_run_id(at)
    if wish.state is not None:
        experiment, name = wish.state.experiment, wish.state.name
    return RunStarted(
        at=at,
        run_id=run_id,
        experiment=text_of(experiment),
        name=("" if name is None else text_of(name)) or f"run-{run_id.rpartition('-')[2]}",
        process=this_process(),
        parent_run_id=parent_run_id,
        rank=rank.rank,
        world_size=rank.world_size,
        backends=plan.public_specs,
        mlobs_version=__version__,
        python_version=platform.python_version(),
        argv=_command_line(),
        number=next(program().numbers),
    )


def _wished(store: Store, facts: RunStarted, wish: Wish) -> Begun:
    """Begin the run of an id that was given, or go on with it.

    Raises:
        UsageError, StoreError: see `begin`.
    """
    folder = store.run(facts.run_id)
    if folder.path.is_dir():
        if wish.resume == "never":
            raise UsageError(
                f"run {facts.run_id} exists in the store {store.path} - type resume='allow' to go on with it,"
                " or leave run_id= out"
            )
        from mlobs.past import look_back  # most runs never need the readers

        return _begun_again(folder, facts, look_back(folder, wish))
    if wish.resume == "must":
        raise UsageError(
            f"there is no run {facts.run_id} in the store {store.path} - `mlobs runs` lists them;"
            " resume='allow' begins it"
        )
    past = past_of_state(wish.state) if wish.state is not None else Past()
    facts = _next(facts, past)
    return Begun(facts, *_begun(store, facts, past.rewind), past)


def _begun(store: Store, facts: RunStarted, rewind: Rewind | None = None) -> tuple[RunFolder, Writer]:
    """Make the folder and the journal of a run, or nothing at all.

    Raises:
        StoreError: the store cannot be written.
    """
    folder = store.new_run(facts.run_id)
    try:
        return folder, _opened(folder, facts, rewind)
    except Exception:
        shutil.rmtree(folder.path, ignore_errors=True)  # a run without a start would only be in the way
        raise


def _begun_again(folder: RunFolder, given: RunStarted, past: Past) -> Begun:
    """Open the next attempt at a run. What the run is called stays as it was."""
    facts = _next(given, past)
    reserved = _reserve(folder, facts.attempt)
    facts = msgspec.structs.replace(facts, attempt=reserved)
    asked, kept = (given.experiment, given.name), (facts.experiment, facts.name)
    if asked != kept:
        log.info("run %s keeps its experiment and name, %s/%s", facts.run_id, *kept)
    try:
        writer = _opened(folder, facts, past.rewind)
    except Exception:
        _reserved(folder, reserved).unlink(missing_ok=True)  # the next try need not wait
        raise
    back = "" if past.rewind is None else f", from step {past.rewind.from_step} on"
    log.info("run %s goes on: attempt %d%s", facts.run_id, facts.attempt, back)
    return Begun(facts, folder, writer, past)


def _next(given: RunStarted, past: Past) -> RunStarted:
    """The facts of the next attempt: those of the run, and those of this process.

    It begins after all that was recorded, also where this host's clock is behind: readers and
    senders tell the attempts apart by that. What its other ranks have recorded comes behind it.
    """
    run = past.start or given
    return msgspec.structs.replace(
        given,
        at=max(min(given.at, math.nextafter(past.until, 0.0)), math.nextafter(past.latest, math.inf)),
        experiment=run.experiment,
        name=run.name,
        parent_run_id=run.parent_run_id,
        attempt=past.attempt + 1,
        resumed_from=past.opener,
    )


def _opened(folder: RunFolder, facts: RunStarted, rewind: Rewind | None) -> Writer:
    """Make this process's journal of a run, or nothing at all."""
    writer = Writer(folder.path, facts.run_id, is_opener=True, rank=facts.rank)
    try:
        writer.append(facts)
        if rewind is not None:
            writer.append(msgspec.structs.replace(rewind, at=facts.at))
    except Exception:
        writer.close()
        writer.path.unlink(missing_ok=True)
        raise
    return writer


def _reserve(folder: RunFolder, attempt: int) -> int:
    """Take the number of an attempt, so that of two processes at the same moment one goes on.

    Raises:
        UsageError: somebody was faster.
        StoreError: the store cannot be written.
    """
    while True:
        path = _reserved(folder, attempt)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError as error:
            if time() - path.stat().st_mtime < OPENING_S:
                raise UsageError(f"run {folder.run_id} was just opened by another process") from error
            attempt += 1  # whoever took it died before the journal had its start
        except OSError as error:
            raise StoreError.of(error, folder.path, "the run cannot be gone on with") from error
        else:
            return attempt


def _reserved(folder: RunFolder, attempt: int) -> Path:
    return folder.path / f"attempt-{attempt}"


def _command_line() -> tuple[str, ...]:
    """What was called, without the secrets in it; an embedded interpreter has none."""
    return public_arguments([text_of(one) for one in getattr(sys, "argv", ())])
