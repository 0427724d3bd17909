"""`mlobs replay`: any past run, to any backend."""

from __future__ import annotations

from typing import Annotated

import typer

from mlobs.cli.options import JsonOption, StoreOption
from mlobs.cli.sync import deliver
from mlobs.errors import UsageError
from mlobs.read.location import open_store


def replay(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Ids, beginnings of ids, or latest."),
    ] = None,
    *,
    to: Annotated[str, typer.Option(metavar="BACKEND", help="The kind of backend, such as mlflow.")],
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="An option of the backend, in place of the settings'. Repeatable."
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All runs of the store.")] = False,
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="All runs of this experiment.")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deliver past runs, imported ones too, to a backend.

    \b
    mlobs replay latest --to tensorboard --option logdir=old-runs
    mlobs replay --experiment churn --to mlflow --option tracking_uri=http://localhost:5000
    mlobs replay --all --to mlflow

    Without options the backend is that of the settings, as in `mlobs sync --backend`. Nothing is sent
    twice to one place. Exits with 1 if something is still pending.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.moving.choosing import choose
    from mlobs.moving.replaying import destination, typed

    if sum((bool(runs), every, experiment is not None)) != 1:
        raise UsageError("say which runs: give their ids, --experiment NAME, or --all")
    options = typed(to, dict(map(_pair, option or ())))
    name, params = destination(to, options)
    folders = choose(open_store(store), runs or None, experiment=experiment)
    deliver(folders, only=[name], options={name: params}, as_json=as_json)


def _pair(text: str) -> tuple[str, str]:
    key, is_there, value = text.partition("=")
    if not is_there or not key:
        raise UsageError(f"--option is {text!r}; expected KEY=VALUE, such as logdir=runs")
    return key, value
