"""How a run is to be done again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

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
