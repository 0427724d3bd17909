"""Code that a repetition took from where it lay, and not from what was restored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlobs.read.record import RunRecord
from mlobs.repro.parts import facts_of, root_of
from mlobs.repro.program import Restored
from mlobs.repro.uncaptured import module_files


def live_code(restored: Restored, repetition: RunRecord) -> Iterator[str]:
    """Say which modules a repetition loaded from the old folders that are not as they were recorded.

    A program may name these by absolute paths, or reach them through links.
    """
    top = restored.folder.resolve()
    for path in module_files(facts_of(root_of(repetition), "modules")):
        real = path.resolve()
        place = restored.place_of(str(real))
        if place is not None and not real.is_relative_to(top) and not _are_equal(real, place):
            yield f"code: {real} was loaded from where it lies, and is not as it was"


def _are_equal(one: Path, other: Path) -> bool:
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:  # one of them is not there
        return False
