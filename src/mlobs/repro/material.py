"""What a run's record holds for doing it again, as the values of this package."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from mlobs.errors import MlobsError, UsageError
from mlobs.events import Snapshot
from mlobs.read.record import RunRecord
from mlobs.repro.code_restore import RestoreReport, restore_code
from mlobs.repro.code_root import CodeRoot
from mlobs.repro.differences import Surroundings
from mlobs.repro.entry import ENTRY
from mlobs.repro.environment import EnvironmentRecord
from mlobs.repro.gpus import Gpus
from mlobs.repro.native import NativeFacts
from mlobs.repro.parts import (
    changed_late,
    code_parts,
    code_roots,
    earlier_programs,
    edited_modules,
    facts_of,
    root_of,
    uncaptured,
    unknown_imports,
)
from mlobs.repro.selection import content_digest
from mlobs.repro.uncaptured import UncapturedFile

_SOURCES = (".py", ".pyi", ".pyx", ".ipynb", ".sh", ".sql", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf")


@dataclass(frozen=True)
class Material:
    """A run, and the snapshot of its program, which its outermost run holds."""

    run: RunRecord
    root: RunRecord

    @classmethod
    def of(cls, run: RunRecord) -> Material:
        """Find what belongs to a run."""
        return cls(run, root_of(run))

    @cached_property
    def entry(self) -> dict[str, Any]:
        """How the program was started, see `entry_facts`; {} if it is not known."""
        return self._facts(ENTRY)

    @cached_property
    def code(self) -> dict[str, tuple[CodeRoot, Path | None]]:
        """The captured code by place, each with the file that holds it."""
        parts = code_parts(self.root)
        return {
            place: (root, self.root.snapshot_file(parts[place].part))
            for place, root in code_roots(self.root).items()
        }

    def restore(self, dest: Path) -> RestoreReport:
        """Write the code into a fresh folder, as it was.

        Raises:
            UsageError: the folder is not empty, or the code is not there, or cannot be restored here.
        """
        if not self.code:
            raise UsageError(f"the code of run {self.run.run_id} is not there: {'; '.join(self.missing())}")
        files = {place: file for place, (_, file) in self.code.items()}
        return restore_code(self.roots, lambda root: files[root.place] or b"", dest)

    @property
    def roots(self) -> tuple[CodeRoot, ...]:
        """The repositories and folders that the code is from."""
        return tuple(root for root, _ in self.code.values())

    @cached_property
    def environment(self) -> EnvironmentRecord | None:
        """The environment; None if it was not captured."""
        path = self.root.snapshot_file("environment")
        if path is None:
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=EnvironmentRecord)
        except (OSError, msgspec.MsgspecError) as error:
            raise UsageError(f"the environment of run {self.root.run_id} cannot be read: {error}") from error

    @property
    def surroundings(self) -> Surroundings:
        """What is known of the environment and the machine."""
        native, gpus = self._facts("native"), self._facts("gpus")
        return Surroundings(
            self.environment,
            NativeFacts.from_facts(native) if native else None,
            msgspec.convert(gpus, Gpus) if gpus else None,
        )

    @property
    def seed(self) -> int | None:
        """What `seed_everything` or `mlobs run --seed` seeded the program with."""
        seed = self._facts("seeds").get("seed")
        return seed if isinstance(seed, int) else None

    @cached_property
    def executed(self) -> Path | None:
        """The cells of a notebook as they were run; None for other programs."""
        return self.root.snapshot_file("notebook")

    def missing(self) -> list[str]:
        """Say what was not captured, and why."""
        parts = (ENTRY, "code", "environment", "native")
        found: list[tuple[str, Snapshot | None]] = [(part, self.root.snapshots.get(part)) for part in parts]
        found += [(one.part, one) for one in code_parts(self.root).values() if one.part != "code"]
        return [
            f"{part}: {one.missing if one is not None else 'not captured'}"
            for part, one in found
            if one is None or one.missing is not None
        ]

    def unknown(self) -> tuple[str, ...]:
        """Say of what nobody can tell whether it is the same elsewhere."""
        return tuple(self.missing()) if self.root.snapshots else ("no snapshot was recorded",)

    def edited(self) -> list[str]:
        """Say which code was edited between the program's start and its capture, or after it was imported."""
        late = [line for line in changed_late(self.root) if line.endswith(_SOURCES)]
        return [*late, *edited_modules(self.root)]

    @property
    def import_roots(self) -> tuple[str, ...]:
        """The folders beside the main code that modules were found in."""
        return tuple(self._facts("modules").get("loose", ()))

    def changed_since(self) -> list[str]:
        """Say which files that were imported and not captured are not there any more as they were."""
        return [
            f"{one.path} was imported and not captured ({one.reason}), and is not there as it was"
            for one in self.uncaptured
            if one.digest is not None and content_digest(Path(one.path)) != one.digest
        ]

    @property
    def uncaptured(self) -> tuple[UncapturedFile, ...]:
        """The files that were imported and are in no captured tree."""
        return uncaptured(self.root)

    def unread(self) -> tuple[str, ...]:
        """Say of which code nobody can tell: imports, and that of the programs before the last."""
        return (*unknown_imports(self.root), *earlier_programs(self.root))

    def written(self) -> list[str]:
        """Say which other files were written in that time: what the program puts out beside its code."""
        return [line for line in changed_late(self.root) if not line.endswith(_SOURCES)]

    def _facts(self, part: str) -> dict[str, Any]:
        return facts_of(self.root, part)


def readable(error: MlobsError) -> str:
    """An error of ours in one line."""
    return " ".join(str(error).split())
