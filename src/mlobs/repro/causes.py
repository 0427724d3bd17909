"""Why two runs may have come to different results: what else differs between them, the most telling first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mlobs.read.record import RunRecord
from mlobs.repro.differences import diff_environments
from mlobs.repro.entry_point import entry_point
from mlobs.repro.material import Material

_MOST = 12  # a person reads no more
_MOST_METRICS = 5


def causes(first: Material, second: Material, *, has_same_code: bool = False) -> list[str]:
    """Return what differs of code, start, seeds, kernels, variables, packages and machines, a line each.

    With `has_same_code` somebody has made sure that code and start are the same.
    """
    found = [] if has_same_code else [*code_changes(first, second), *start_changes(first, second)]
    found += seed_changes(first, second)
    found += diff_environments(first.surroundings, second.surroundings)
    return [*found[:_MOST], *([f"and {len(found) - _MOST} more"] if len(found) > _MOST else [])]


def start_changes(first: Material, second: Material) -> list[str]:
    """Return how the programs were started otherwise, wherever they lie, as far as both are known."""
    if not first.entry or not second.entry:
        return []
    before, after = entry_point(first.entry, first.roots), entry_point(second.entry, second.roots)
    return [
        f"{name}: {_text(before.get(name))} -> {_text(after.get(name))}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]


def seed_changes(first: Material, second: Material) -> list[str]:
    """Return whether the programs were seeded otherwise, as far as both are known."""
    if not first.entry or not second.entry or first.seed == second.seed:
        return []
    return [f"seed: {first.seed} -> {second.seed}"]


def _text(value: object) -> str:
    return (" ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def code_changes(first: Material, second: Material) -> list[str]:
    """Return which parts of the code differ, as far as both are known."""
    before = {place: root for place, (root, _) in first.code.items()}
    after = {place: root for place, (root, _) in second.code.items()}
    return [
        f"code {place or 'of the program'}: tree {before[place].tree[:12]} -> {after[place].tree[:12]}"
        for place in before
        if place in after and before[place].tree != after[place].tree
    ]


def spread(record: RunRecord, repetitions: Sequence[RunRecord]) -> Iterator[str]:
    """Say how far the last values of the repetitions are apart, beside the recorded one."""
    names = [name for name in record.last_metrics if all(name in one.last_metrics for one in repetitions)]
    widths = {}
    for name in names:
        values = [one.last_metrics[name] for one in repetitions]
        width = max(values) - min(values)
        if math.isfinite(width) and width > 0:
            widths[name] = (width / max(map(abs, values)), min(values), max(values))
    for name, (_, low, high) in sorted(widths.items(), key=lambda one: -one[1][0])[:_MOST_METRICS]:
        yield f"{name}: {low!r} to {high!r}; recorded {record.last_metrics[name]!r}"
