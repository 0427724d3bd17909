"""How a run is to be done again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from mlobs.errors import UsageError
from mlobs.repro.comparison import Tolerance

EnvironmentChoice: TypeAlias = Literal["auto", "recreate", "current"]


@dataclass(frozen=True)
class Wishes:
    """How a run is to be done again, see `reproduce`."""

    env: EnvironmentChoice = "auto"
    check_data: bool = True
    repeat: int = 2
    tolerance: Tolerance = field(default_factory=Tolerance)
    dest: Path | None = None
    command: Sequence[str] = ()
    link: Sequence[str] = ()
    check_only: bool = False


def fresh_folder(dest: Path | None) -> Path:
    """Make the folder of the reproduction.

    Raises:
        UsageError: it exists and is not empty.
    """
    if dest is None:
        return Path(tempfile.mkdtemp(prefix="mlobs-reproduce-"))
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise UsageError(f"{dest} exists and is not empty - name a folder that does not exist yet")
    dest.mkdir(parents=True, exist_ok=True)
    return dest
