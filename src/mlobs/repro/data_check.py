"""Are the recorded datasets still what they were? Asked where they lie, before anything is run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from mlobs.errors import MlobsError
from mlobs.events import Dataset
from mlobs.repro.material import readable

_WANTED: dict[str, Literal["content", "stat", "pinned"]] = {
    "content": "content",
    "stat": "stat",
    "pinned": "pinned",
}  # the same again, to be comparable


@dataclass
class DataCheck:
    """What was found, a line each: `confirmed`, `changed`, and `unchecked` with the reason."""

    confirmed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def check_data(datasets: Iterable[Dataset], tell: Callable[[str], None]) -> DataCheck:
    """Compare the files and folders among the datasets with their fingerprints.

    Data that was in memory has no place to look at: the repetition fingerprints it when it logs it again.
    """
    check = DataCheck()
    for one in datasets:
        if one.source is None:
            check.unchecked.append(f"dataset {one.name} was in memory: the repetition's own is compared")
        elif one.strength == "name":
            check.unchecked.append(f"dataset {one.name}: the name alone was recorded: {one.source}")
        elif "://" in one.source or not os.path.exists(one.source):  # noqa: PTH110 - a text of then
            check.unchecked.append(f"dataset {one.name}: {one.source} cannot be looked at from here")
        else:
            tell(f"checking dataset {one.name}: {one.source}")
            _check(one, one.source, check)
    return check


def _check(one: Dataset, source: str, check: DataCheck) -> None:
    from mlobs.repro.dataset_comparison import changes
    from mlobs.repro.fingerprint import fingerprint
    from mlobs.repro.recorded_data import recorded_fingerprint

    try:
        now = fingerprint(source, strength=_WANTED.get(one.strength, "auto"))
    except MlobsError as error:
        check.unchecked.append(f"dataset {one.name}: {readable(error)}")
        return
    if now.text == one.fingerprint:
        word = "is unchanged" if one.strength == "content" else f"looks unchanged ({one.strength} only)"
        check.confirmed.append(f"dataset {one.name} {word}: {source}")
        return
    if one.strength == "stat":
        check.unchecked.append(
            f"dataset {one.name}: sizes or times changed, and no more is recorded: {source}"
        )
        return
    found = changes(recorded_fingerprint(one), now)
    check.changed += [f"dataset {one.name}: {change}" for change in found]
