"""Going on with a run: what `start_run` was asked for, and which run that is."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from mlobs.errors import UsageError
from mlobs.events import Rewind, RunStarted
from mlobs.jobs import job_of
from mlobs.troubles import log
from mlobs.values import optional_step, repr_of, text_of

Resume: TypeAlias = Literal["never", "allow", "must", "auto"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")  # a folder's name everywhere, and quoted by no vendor
_opened: Counter[tuple[int, str, str, str]] = Counter()  # by process, job, experiment and name
_NO_JOB = 0, "", "", ""


class SavedState(msgspec.Struct, frozen=True):
    """What `Run.state_dict` put into a checkpoint, at the moment `at` (Unix seconds).

    `steps` is where the counting of calls without a step stood, by metric.
    """

    run_id: str
    experiment: str
    name: str
    attempt: int
    at: float
    step: int
    steps: dict[str, int] = {}


@dataclass(frozen=True)
class Wish:
    """Which run is to be opened. `run_id` None: a new one, of an id of its own.

    `counted` is under what a job's run was counted.
    """

    resume: Resume = "never"
    run_id: str | None = None
    from_step: int | None = None
    state: SavedState | None = None
    counted: tuple[int, str, str, str] | None = None


@dataclass(frozen=True)
class Past:
    """What the earlier attempts at a run left to the next one.

    `steps` is the next step of each metric whose calls are counted, `latest` when the last event was
    recorded, `rewind` what the next attempt takes back, if it takes anything back. Ranks of the next
    attempt record from the moment `until` on.
    """

    start: RunStarted | None = None
    attempt: int = 0
    opener: str | None = None
    latest: float = 0.0
    until: float = math.inf
    params: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, int] = field(default_factory=dict)
    last_step: int = 0
    rewind: Rewind | None = None


def wish_of(
    resume: str, run_id: str | None, from_step: int | None, state: object, experiment: str, name: str | None
) -> Wish:
    """Check what `start_run` was asked for, and find the run that is meant.

    Raises:
        UsageError: an unknown word, or words that contradict each other; the message says what to type.
    """
    if resume not in get_args(Resume):
        raise UsageError(f"resume is {resume!r}; expected one of {', '.join(get_args(Resume))}")
    saved = _saved(state)
    if saved is not None:
        return _of_state(resume, run_id, saved)
    if resume == "auto":
        if run_id is not None:
            raise UsageError("resume='auto' finds the run's id itself; with run_id= type resume='allow'")
        return _of_job(experiment, name, _step(from_step))
    if run_id is None and resume != "never":
        raise UsageError(f"resume={resume!r} needs the run to go on with - type run_id=... or state=...")
    if from_step is not None and resume == "never":
        raise UsageError("from_step= goes back in a run that exists - type resume='must' and its run_id=")
    return Wish(resume, _checked(run_id), _step(from_step))  # type: ignore[arg-type]


def not_opened(wish: Wish) -> None:
    """The run could not be opened: the next try means the same one."""
    if wish.counted is not None:
        _opened[wish.counted] -= 1


def past_of_state(state: SavedState) -> Past:
    """What a checkpoint says of attempts that this store has never seen."""
    rewind = Rewind(state.at, state.step + 1, since=state.at)
    return Past(
        attempt=state.attempt, latest=state.at, steps=state.steps, last_step=state.step, rewind=rewind
    )


def _saved(state: object) -> SavedState | None:
    if state is None:
        return None
    try:
        saved = msgspec.convert(state, SavedState)
    except msgspec.ValidationError as error:
        raise _no_state(state, str(error)) from error
    if not math.isfinite(saved.at):
        raise _no_state(state, f"at is {saved.at}")
    for step in (saved.step, *saved.steps.values()):
        if not _fits(step):
            raise _no_state(state, f"step {step} does not fit 64 bits")
    return saved


def _no_state(state: object, problem: str) -> UsageError:
    return UsageError(f"state is {repr_of(state)}; expected what run.state_dict() returned ({problem})")


def _fits(step: int) -> bool:
    return -(1 << 63) <= step < 1 << 63  # the store and every vendor keep steps in 64 bits


def _of_state(resume: str, run_id: str | None, saved: SavedState) -> Wish:
    if run_id not in (None, saved.run_id):
        raise UsageError(f"run_id is {run_id!r}, but state= is of run {saved.run_id!r}; give one of them")
    return Wish("must" if resume == "must" else "allow", _checked(saved.run_id), state=saved)


def _checked(run_id: object) -> str | None:
    if run_id is None or (isinstance(run_id, str) and _ID.fullmatch(run_id)):
        return run_id
    raise UsageError(
        f"run_id is {repr_of(run_id)}; expected up to 128 letters, digits and any of _ . -,"
        " the first a letter or digit"
    )


def _step(from_step: object) -> int | None:
    step = optional_step(from_step)
    if step is not None and not _fits(step):
        raise UsageError(f"from_step is {step}; expected an integer of 64 bits")
    return step


def _of_job(experiment: str, name: str | None, from_step: int | None) -> Wish:
    job = job_of(os.environ)
    if job is None:
        if not _opened[_NO_JOB]:
            log.info("resume='auto': no job's id in the environment, so each run is a new one")
        _opened[_NO_JOB] += 1
        return Wish("allow", from_step=from_step)
    key = os.getpid(), job.key, experiment, "" if name is None else text_of(name)
    _opened[key] += 1
    return Wish("allow", job.run_id(*key[2:], _opened[key]), from_step, counted=key)
