"""`mlobs diff` and `mlobs restore`: what a run was made of, and what another one had otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import to_builtins

from mlobs.cli.completion import complete_run
from mlobs.cli.options import JsonOption, RunArgument, StoreOption
from mlobs.cli.output import print_json, print_lines
from mlobs.text import printable


def diff(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A", help="A run's id, the beginning of one, or latest.", autocompletion=complete_run
        ),
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="Another run.", autocompletion=complete_run)],
    *,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two runs: params, data, code, environment and results.

    \b
    mlobs diff 20240131-1200 latest

    Exits with 1 if anything differs, as diff(1) does.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.repro.run_diff import diff_runs

    found = diff_runs(first, second, store=store)
    metrics = [
        f"{one.metric}: {one.first!r} -> {one.second!r} at step {one.step}, at worst {one.worst:.2g} apart"
        for one in found.metrics
    ]
    sections: dict[str, Sequence[str]] = {
        "params": found.params,
        "datasets": found.datasets,
        "start": found.entry,
        "environment": found.environment,
        "code": found.code,
        "metrics": metrics,
        "results": found.results,
        "cannot be told": found.doubts,
    }
    if as_json:
        document: dict[str, Any] = to_builtins(found)
        print_json(document)
    else:
        for title, lines in sections.items():
            print_lines(title, lines, is_diff=title == "code")
    if not found.is_empty:
        raise typer.Exit(1)
    if not as_json:
        typer.echo("nothing differs of what is known" if found.doubts else "nothing differs")


def restore(
    run: RunArgument,
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="A folder that does not exist yet.")],
    *,
    store: StoreOption = None,
) -> None:
    """Write the code of a run as it was: committed, changed and new files.

    \b
    mlobs restore latest ../as-it-was
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.repro.material import Material
    from mlobs.repro.whole_run import load_whole_run

    done = Material.of(load_whole_run(run, store)).restore(dest)
    for path, place in done.moved.items():
        typer.echo(f"{printable(path)} -> {printable(str(place))}")
    for one in done.excluded:
        typer.echo(f"not packed: {printable(one.path)} ({one.reason})", err=True)
