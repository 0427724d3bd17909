"""`mlobs run`: start a program so that it can be repeated."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from mlobs.errors import UsageError


def run(
    command: Annotated[list[str] | None, typer.Argument(metavar="-- COMMAND", help="What to start.")] = None,
    *,
    seed: Annotated[int | None, typer.Option(help="Seed of the program, 0 to 4294967295.")] = None,
) -> None:
    """Start a program with what has to be fixed before Python starts.

    \b
    mlobs run --seed 7 -- python train.py --lr 0.1

    With a seed: PYTHONHASHSEED, so that sets have the same order each time; cuBLAS' workspace; and
    `mlobs.seed_everything()` without a seed takes this one. Exits as the program does.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.repro.launch import launch, launch_environment

    if not command:
        raise UsageError("there is nothing to start - type: mlobs run --seed 7 -- python train.py")
    raise typer.Exit(launch(command, launch_environment(os.environ, seed)))
