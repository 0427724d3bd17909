"""Did two recorded runs come to the same, and should they have? Nothing is run."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mlobs.errors import UsageError
from mlobs.read.location import StoreLike, open_store
from mlobs.read.record import RunRecord, liveness, read_run
from mlobs.repro.causes import causes, code_changes
from mlobs.repro.comparison import Comparison, Tolerance, compare
from mlobs.repro.material import Material
from mlobs.repro.recipe import RECIPE_TAG, Recipe, recipe_of
from mlobs.repro.report import ReproReport
from mlobs.repro.verdict import Verdict, judge
from mlobs.repro.whole_run import is_being_captured, load_whole_run, when_captured


def verify(
    run: str,
    other: str | None = None,
    *,
    store: StoreLike = None,
    rtol: float = 1e-6,
    atol: float = 0.0,
) -> ReproReport:
    """Compare two runs that are recorded, and say whether the same recipe gave the same model.

    Without `other` it is the latest other run of the store with the same recipe that ended alike. Runs of
    one recipe on one machine with other results are "nondeterministic"; on other machines, "different" or
    "equivalent". Where a part of a recipe is not known, only identical results tell anything.

    Raises:
        UsageError: there is no such run, or none with the same recipe.
        StoreError: there is no such store.
    """
    started = time.perf_counter()
    first = load_whole_run(run, store)
    recipe = recipe_of(first)
    second = load_whole_run(other, store) if other is not None else _latest_like(first, recipe, store)
    if second.run_id == first.run_id:
        raise UsageError(f"both are run {first.run_id} - name another one, or type: mlobs reproduce {run}")
    found, again = compare(first, second, Tolerance(rtol, atol)), recipe_of(second)
    one, two = Material.of(first), Material.of(second)
    changed = code_changes(one, two)
    is_same = None not in recipe[:2] and recipe[:2] == again[:2]
    obstacles = _obstacles(first, second, found, [*recipe.missing, *again.missing])
    verdict: Verdict = judge([found], [found] if is_same else [], obstacles)
    return ReproReport(
        verdict="inputs-differ" if changed else verdict,
        run_id=first.run_id,
        repetitions=(second.run_id,),
        checks=_agreements(recipe, again),
        obstacles=tuple(obstacles),
        inputs=(*changed, *found.params, *found.datasets),
        results=(*found.unmatched, *found.model_differences),
        causes=() if found.is_identical else tuple(causes(one, two)),
        first_divergence=found.first_divergence(),
        divergences=found.divergences,
        points=found.points,
        models=found.models,
        ignored=found.ignored,
        seconds=round(time.perf_counter() - started, 2),
    )


def _obstacles(first: RunRecord, second: RunRecord, found: Comparison, missing: Sequence[str]) -> list[str]:
    """Say why nobody can tell. Runs that came to the same need no proof that they were made of the same."""
    if not found.has_results:
        return ["the runs have no metric values and no models in common"]
    obstacles = []
    if first.status != second.status:
        obstacles.append(
            f"run {first.run_id} is {first.status}, run {second.run_id} is {second.status}:"
            " the results of one may be cut off"
        )
    return obstacles if found.is_identical else list(dict.fromkeys([*obstacles, *missing]))


def _agreements(recipe: Recipe, again: Recipe) -> tuple[str, ...]:
    lines = []
    if recipe.key is not None and recipe.key == again.key:
        lines.append("the recipes are the same: code, entry point, params, data, environment and seeds")
    if recipe.machine is not None and recipe.machine == again.machine:
        lines.append("the machines compute alike: kernels, threads, GPUs")
    return tuple(lines)


def _latest_like(first: RunRecord, recipe: Recipe, store: StoreLike) -> RunRecord:
    """Find the latest other run of the same recipe; the same machine counts more."""
    if recipe.key is None:
        raise UsageError(
            f"the recipe of run {first.run_id} is not known ({'; '.join(recipe.missing)})"
            " - name the run to compare it with: mlobs verify RUN OTHER"
        )
    is_alive = liveness()
    found = []
    for folder in open_store(store).runs():
        if folder.run_id != first.run_id:
            record = read_run(folder, is_alive)
            if record is None or record.status != first.status:
                continue
            if is_being_captured(record):
                record = when_captured(record)
            if _key_of(record) == recipe.key:
                found.append(record)
    if not found:
        raise UsageError(
            f"no other run has the recipe of {first.run_id} - run the program once more, or type:"
            f" mlobs reproduce {first.run_id}"
        )
    return max(found, key=lambda one: (recipe_of(one).machine == recipe.machine, one.run_id))


def _key_of(record: RunRecord) -> str | None:
    """A run's recipe, as its tag says; one whose sender was killed has none, and its record is asked."""
    return record.tags.get(RECIPE_TAG) or recipe_of(record).key
