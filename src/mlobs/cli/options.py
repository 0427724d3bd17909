"""Options that several commands take, spelled and explained once."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="FOLDER", help="The store. Default: MLOBS_STORE, else the nearest .mlobs upwards."
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help='Print one JSON document (NaN is the string "NaN").')
]


class StatusName(str, Enum):
    """The statuses, as an option's choices."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"
    CRASHED = "CRASHED"
