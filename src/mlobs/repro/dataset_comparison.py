"""The datasets of two runs beside each other: the same, others, or nobody can tell. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from msgspec.structs import replace

from mlobs.events import Dataset
from mlobs.repro.fingerprint_diff import diff_fingerprints
from mlobs.repro.fingerprint_value import Fingerprint
from mlobs.repro.recorded_data import recorded_fingerprint

VERIFIABLE = ("content", "rows", "pinned")  # strengths of a fingerprint that say what the data is


def compare_datasets(first: Sequence[Dataset], second: Sequence[Dataset]) -> tuple[list[str], list[str]]:
    """Return how the data differs, and of which data that cannot be told; a line each.

    Datasets are matched by name and by what they were used for. One that was used several times is
    compared each time.
    """
    differences: list[str] = []
    uncertain: list[str] = []
    before, after = _by_role(first), _by_role(second)
    for role in {**before, **after}:
        context, name = role
        for one, other in zip_longest(before.get(role, ()), after.get(role, ())):
            if other is None:
                differences.append(f"dataset {name} ({context}) was not used again")
            elif one is None:
                differences.append(f"dataset {name} ({context}) is new")
            elif (reason := _doubt(one, other)) is not None:
                uncertain.append(f"dataset {name}: {reason}")
            else:
                changed = changes(recorded_fingerprint(one), recorded_fingerprint(other))
                differences += [f"dataset {name}: {change}" for change in changed]
    return differences, uncertain


def changes(before: Fingerprint, after: Fingerprint) -> list[str]:
    """Say what changed, a line each. Parts are named if both fingerprints have them.

    A record does not hold the parts of a table of thousands of columns, or of a folder of thousands of files.
    """
    if bool(before.columns) != bool(after.columns) or bool(before.files) != bool(after.files):
        before, after = replace(before, columns=(), files={}), replace(after, columns=(), files={})
    return diff_fingerprints(before, after)


def _by_role(datasets: Iterable[Dataset]) -> dict[tuple[str, str], list[Dataset]]:
    """The datasets by use and name, each content once, in order."""
    found: dict[tuple[str, str], dict[str, Dataset]] = {}
    for one in datasets:
        found.setdefault((one.context, one.name), {}).setdefault(one.fingerprint, one)
    return {role: list(uses.values()) for role, uses in found.items()}


def _doubt(one: Dataset, other: Dataset) -> str | None:
    """Return why nobody can tell whether two datasets are the same, if so."""
    schemes = [each.fingerprint.partition(":")[0] for each in (one, other)]
    if schemes[0] != schemes[1]:
        return f"recorded as {schemes[0]} ({one.strength}) and as {schemes[1]} ({other.strength})"
    if one.fingerprint == other.fingerprint:
        return (
            None if one.strength in VERIFIABLE else f"its {one.strength} is the same, which proves no content"
        )
    is_by_time = one.strength == "stat" and one.source is not None
    return "sizes or times of its files differ, the content may be the same" if is_by_time else None
