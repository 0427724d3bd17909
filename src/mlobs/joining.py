"""Several processes of one run: which of them record, and how one joins what another opens."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from mlobs.delivery.start import find_start
from mlobs.errors import StoreError, UsageError
from mlobs.events import RunStarted
from mlobs.journal.store import RunFolder
from mlobs.journal.writer import NullWriter, Writer
from mlobs.opening import Begun, Plan, begin, facts_here
from mlobs.ranks import Rank, launch_of, rank_of
from mlobs.resuming import Past, Wish
from mlobs.troubles import caller, log
from mlobs.values import text_of

_said: set[str] = set()  # what this process was told about its rank
_opened: Counter[tuple[int, str, str, str]] = Counter()  # the runs of a launch by process and name


def begin_ranked(
    plan: Plan, experiment: str, name: str | None, wish: Wish, *, env: Mapping[str, str] = os.environ
) -> tuple[Plan, Begun]:
    """Begin a run as the rank that the environment says, and return the plan that holds for it.

    Under `ranks="zero"` another rank than 0 gets a run that records nothing, and neither do the runs
    below it. Under "all" it joins the run that rank 0 opens; the folder is made by who comes first.

    Raises:
        UsageError, StoreError: see `begin`.
    """
    rank = rank_of(env)
    if plan.store is None or rank.is_alone or plan.settings.ranks == "each":
        return plan, begin(plan, experiment, name, wish=wish)
    if plan.settings.ranks == "zero":
        if not rank.is_zero:
            _say_once(rank, "only rank 0 records; ranks='all' records all into one run")
            plan = replace(plan, store=None)
        return plan, begin(plan, experiment, name, wish=wish, rank=rank)
    common = wish if wish.run_id is not None else _of_launch(rank, env, experiment, name)
    if common is None:
        return _without_launch(plan, experiment, name, rank)
    if rank.is_zero:
        return plan, _open_shared(plan, experiment, name, common, rank)
    return plan, _join_shared(plan, experiment, name, common, rank)


def join(plan: Plan, facts: RunStarted, past: Past = Past()) -> Begun:  # noqa: B008 - it is frozen
    """Begin to record into a run that another process opens, or has opened, in a journal of one's own.

    What is recorded here is sent once the run's start is in the store too.

    Raises:
        StoreError: only with `on_error="raise"`: the store cannot be written.
    """
    if plan.store is None:
        return Begun(facts, None, NullWriter(), past, is_joined=True)
    try:
        folder = plan.store.new_run(facts.run_id, is_shared=True)
        writer = Writer(folder.path, facts.run_id, rank=facts.rank)
    except StoreError as error:
        if plan.on_error == "raise":
            raise
        log.warning("%s: nothing of run %s will be recorded here: %s", caller(), facts.name, error)
        return Begun(facts, None, NullWriter(), past, is_joined=True)
    return Begun(facts, folder, writer, past, is_joined=True)


def _of_launch(rank: Rank, env: Mapping[str, str], experiment: str, name: str | None) -> Wish | None:
    """The run that each rank finds by itself; None if they have nothing in common."""
    launch = launch_of(env, rank)
    if launch is None:
        return None
    key = os.getpid(), launch.key, text_of(experiment), "" if name is None else text_of(name)
    _opened[key] += 1
    return Wish("allow", launch.run_id(*key[2:], _opened[key]))


def _without_launch(plan: Plan, experiment: str, name: str | None, rank: Rank) -> tuple[Plan, Begun]:
    """Record rank 0 alone: the others cannot know its run."""
    if not rank.is_zero:
        log.warning(
            "%s: rank %d of %d cannot tell which run rank 0 opens, so it records nothing"
            " - set MLOBS_RUN_ID to the same name for all ranks, or pass run_id= and resume='allow'",
            caller(),
            *rank[:2],
        )
        plan = replace(plan, store=None)
    return plan, begin(plan, experiment, name, rank=rank)


def _open_shared(plan: Plan, experiment: str, name: str | None, wish: Wish, rank: Rank) -> Begun:
    """Open the run as rank 0, also where other ranks have made its folder before."""
    assert plan.store is not None
    assert wish.run_id is not None
    folder = plan.store.run(wish.run_id)
    if wish.resume != "must" and not _has_start(folder):
        try:
            plan.store.new_run(wish.run_id, is_shared=True)
            wish = replace(wish, resume="allow")
        except StoreError:  # `begin` meets it too, and knows what is to be done
            pass
    return begin(plan, experiment, name, wish=wish, rank=rank)


def _join_shared(plan: Plan, experiment: str, name: str | None, wish: Wish, rank: Rank) -> Begun:
    """Join the run as another rank than 0.

    Raises:
        UsageError: the run must exist, and does not.
    """
    assert plan.store is not None
    assert wish.run_id is not None
    folder = plan.store.run(wish.run_id)
    if wish.resume == "must" and not _has_start(folder):
        raise UsageError(
            f"there is no run {wish.run_id} in the store {plan.store.path} - `mlobs runs` lists them;"
            " resume='allow' begins it"
        )
    facts = facts_here(plan, experiment, name, wish=wish, rank=rank)
    past = Past() if wish.state is None else Past(steps=wish.state.steps, last_step=wish.state.step)
    _say_once(rank, f"it records into the run {facts.run_id}")
    return join(plan, facts, past)


def _has_start(folder: RunFolder) -> bool:
    return find_start(folder) is not None


def _say_once(rank: Rank, what: str) -> None:
    words = f"rank {rank.rank} of {rank.world_size} ({rank.launcher}): {what}"
    if words not in _said:
        _said.add(words)
        log.info("%s", words)
