"""The parts of a program's snapshot, as its outermost run holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import convert

from mlobs.events import Snapshot
from mlobs.journal.store import RunFolder
from mlobs.read.record import RunRecord, liveness, read_run
from mlobs.repro.code_root import CodeRoot
from mlobs.repro.entry import ENTRY
from mlobs.repro.selection import is_code
from mlobs.repro.uncaptured import UNCAPTURED, UncapturedFile, module_files, uncaptured_files

_CHANGED_LATE = ("changed after the start", "changed while it was read")  # how warnings of a root begin


def root_of(record: RunRecord) -> RunRecord:
    """Return the run that holds the snapshot of a run's program: itself, or the one around it."""
    seen = {record.run_id}
    while ENTRY not in record.snapshots and record.parent_run_id and record.parent_run_id not in seen:
        seen.add(record.parent_run_id)
        parent: RunFolder = record.folder.sibling(record.parent_run_id)
        above = read_run(parent, liveness()) if parent.path.is_dir() else None
        if above is None:
            break
        record = above
    return record


def facts_of(root: RunRecord, part: str) -> dict[str, Any]:
    """Return the facts of a part; {} if it is not there."""
    one = root.snapshots.get(part)
    return one.facts if one is not None and one.missing is None else {}


def code_parts(root: RunRecord) -> dict[str, Snapshot]:
    """Return the parts of the snapshot that hold code, by the place they have below the main folder."""
    return {
        part.partition("/")[2]: one
        for part, one in root.snapshots.items()
        if part == "code" or part.startswith("code/")
    }


def code_roots(root: RunRecord) -> dict[str, CodeRoot]:
    """Return the repositories and folders that were captured, by place."""
    return {
        place: convert(one.facts, CodeRoot) for place, one in code_parts(root).items() if one.missing is None
    }


def uncaptured(root: RunRecord) -> tuple[UncapturedFile, ...]:
    """Return the files that were imported and are in no captured tree."""
    return uncaptured_files(facts_of(root, UNCAPTURED))


def unknown_imports(root: RunRecord) -> list[str]:
    """Say of which imports nobody can tell: all, those beyond a number, or single files."""
    modules = facts_of(root, "modules")
    if not modules:
        return ["modules: what was imported is not known, as the program did not come to its end"]
    said = [
        f"{one.path} was imported and not captured: {one.reason}"
        for one in uncaptured(root)
        if one.digest is None
    ]
    listed = len(module_files(modules))
    if modules.get("local", 0) > listed:
        said.append(f"modules: {modules['local']} files were imported, and the first {listed} are recorded")
    return said


def earlier_programs(root: RunRecord) -> list[str]:
    """Say that a run is the work of several programs, if it is: the snapshot is of the last one."""
    attempts = root.latest.attempt if root.latest is not None else 1
    return [f"the run was resumed: {attempts} programs made it"] if attempts > 1 else []


def changed_late(root: RunRecord) -> list[str]:
    """Return which captured files changed between the program's start and their capture, a line each."""
    warnings = [line for one in code_roots(root).values() for line in one.warnings]
    return [line for line in warnings if line.startswith(_CHANGED_LATE)]


def edited_modules(root: RunRecord) -> list[str]:
    """Say which modules may have run in another form than lies there: they changed while the program ran."""
    changed: Sequence[str] = facts_of(root, "modules").get("changed", ())
    return [f"{path} was edited after the program had begun" for path in changed]


def edited_code(root: RunRecord) -> list[str]:
    """Say the same, and which other files of code changed before they were captured."""
    return [
        *edited_modules(root),
        *(one for one in changed_late(root) if is_code(one.encode("utf-8", "replace"))),
    ]
