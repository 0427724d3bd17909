"""What went into each run otherwise than into the first one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mlobs.comparing import environment_diff, lines_of
from mlobs.read.record import RunRecord
from mlobs.repro.causes import code_changes
from mlobs.repro.comparison import compare_inputs
from mlobs.repro.material import Material
from mlobs.repro.run_diff import code_diff, entry_diff

MOST_RUNS = 20  # compared with the first: restoring two trees takes up to a second
PARTS = ("params", "datasets", "start", "environment", "code")


@dataclass(frozen=True)
class Difference:
    """A run beside the first one: lines for each part that differs, of the code a unified diff.

    `not_captured` says what of either run is not there to be compared.
    """

    run: int
    lines: dict[str, tuple[str, ...]]
    not_captured: tuple[str, ...]


def differences(records: Sequence[RunRecord]) -> list[Difference]:
    """Compare each run with the first one, at most `MOST_RUNS` of them."""
    first = Material.of(records[0])
    of_code: dict[tuple[str, ...], tuple[str, ...]] = {}
    found = []
    for number, record in enumerate(records[1 : MOST_RUNS + 1], 1):
        second = Material.of(record)
        lines = {part: lines_of(_DIFFERENCES[part], first, second) for part in PARTS[:-1]}
        key = tuple(code_changes(first, second))
        if key not in of_code:  # runs of one state of the code have one diff
            of_code[key] = lines_of(code_diff, first, second) if key else ()
        lines["code"] = of_code[key]
        missing = dict.fromkeys([*first.missing(), *second.missing()])
        found.append(Difference(number, {part: some for part, some in lines.items() if some}, tuple(missing)))
    return found


_DIFFERENCES: dict[str, Callable[[Material, Material], Iterable[str]]] = {
    "params": lambda first, second: compare_inputs(first.run, second.run)[0],
    "datasets": lambda first, second: compare_inputs(first.run, second.run)[1],
    "start": entry_diff,
    "environment": environment_diff,
    "code": code_diff,
}
