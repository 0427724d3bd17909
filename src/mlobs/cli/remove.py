"""`mlobs rm` and `mlobs gc`: what is taken out of a store, after a question."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlobs.cli.options import JsonOption, StoreOption, runs_argument
from mlobs.cli.output import print_json, print_table
from mlobs.errors import UsageError
from mlobs.read.location import find_runs, open_store
from mlobs.text import printable, size

if TYPE_CHECKING:
    from mlobs.upkeep.garbage import Found, Garbage
    from mlobs.upkeep.removal import Candidate

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def rm(
    runs: Annotated[list[str], runs_argument()],
    *,
    yes: YesOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also runs that may be running, or are being delivered.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove runs and their child runs, after a question.

    \b
    mlobs rm 20240131-1200
    mlobs rm latest --yes
    mlobs rm 20240131-1200 --force --yes      its host is gone, and it reads RUNNING for ever

    There is no way back. What MLflow, TensorBoard and others hold of a run stays there: delete it with
    their own tools. Code and data that other runs share stay; `mlobs gc` finds what nobody shares any more.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.upkeep.removal import candidates, remove

    opened = open_store(store)
    found = candidates(opened, find_runs(opened, runs))
    in_use = [one for one in found if one.in_use]
    if in_use and not force:
        first = in_use[0]
        raise UsageError(
            f"run {first.run_id}: {first.in_use}; nothing was removed - --force removes it anyway"
        )
    if not yes:
        _show(found)
        ask(f"Remove {_count(found)} from {opened.path}?", as_json=as_json)
    for one in found:
        remove(one)
    if as_json:
        print_json([_document(one) for one in found])
        return
    typer.echo(f"removed {_count(found)}, {size(sum(one.size_bytes for one in found))}")
    holders = dict.fromkeys(name for one in found for name in one.holders)
    if holders:
        typer.echo(f"what {', '.join(holders)} had of it stays there", err=True)


def gc(*, yes: YesOption = False, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Find what the store keeps in vain; --yes deletes it.

    \b
    mlobs gc
    mlobs gc --yes

    Snapshots of code and environments that no run links to, versions of datasets that no run here
    uses, raw content whose final form is made, output of senders older than a week, and what was broken
    off. Runs may go on meanwhile: what is younger than an hour is never touched.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.upkeep.garbage import delete, find_garbage

    opened = open_store(store)
    found = find_garbage(opened, time.time())
    done = delete(found.garbage, time.time()) if yes else []
    if as_json:
        print_json(_gc_document(found, done, is_deleted=yes))
        return
    for remark in found.remarks:
        typer.echo(printable(remark), err=True)
    chosen = done if yes else found.garbage
    if not chosen:
        typer.echo(f"nothing in {opened.path} is superfluous")
        return
    _print_kinds(chosen)
    freed = size(sum(one.size_bytes for one in chosen))
    typer.echo(f"deleted, {freed}" if yes else f"nothing was deleted - type --yes to free {freed}")


def ask(question: str, *, as_json: bool) -> None:
    """Go on only if a person says yes.

    Raises:
        UsageError: the answer is no, or nobody is there to be asked.
    """
    if as_json:
        raise UsageError("nothing was removed: --json does not ask - type --yes")
    try:
        is_wanted = typer.confirm(question, err=True)
    except typer.Abort as error:
        typer.echo(err=True)
        raise UsageError("nothing was removed: nobody answered - type --yes") from error
    if not is_wanted:
        raise UsageError("nothing was removed")


def _count(found: Sequence[Candidate]) -> str:
    return "1 run" if len(found) == 1 else f"{len(found):,} runs"


def _show(found: Sequence[Candidate]) -> None:
    headings = ("run id", "name", "status", "child of", "size", "not yet sent to")
    rows = [
        [
            one.run_id,
            one.name,
            one.status,
            one.parent_run_id or "",
            size(one.size_bytes),
            ", ".join(one.lacking),
        ]
        for one in found
    ]
    print_table(headings, rows, right=("size",))


def _document(one: Candidate) -> dict[str, Any]:
    return {
        "run_id": one.run_id,
        "name": one.name,
        "status": one.status,
        "parent_run_id": one.parent_run_id,
        "size_bytes": one.size_bytes,
        "stays_at": one.holders,
        "not_sent_to": one.lacking,
    }


def _print_kinds(garbage: Sequence[Garbage]) -> None:
    kinds: defaultdict[str, list[Garbage]] = defaultdict(list)
    for one in garbage:
        kinds[one.kind].append(one)
    rows = [
        [kind, f"{len(of):,}", size(sum(one.size_bytes for one in of)), str(of[0].path)]
        for kind, of in kinds.items()
    ]
    print_table(("what", "files", "size", "such as"), rows, right=("files", "size"))


def _gc_document(found: Found, done: Sequence[Garbage], *, is_deleted: bool) -> dict[str, Any]:
    return {
        "is_deleted": is_deleted,
        "files": [
            {"path": str(one.path), "kind": one.kind, "size_bytes": one.size_bytes}
            for one in (done if is_deleted else found.garbage)
        ],
        "remarks": found.remarks,
    }
