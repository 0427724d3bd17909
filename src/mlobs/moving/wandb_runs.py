"""Runs in the local files of W&B's client: what `wandb sync` would send."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mlobs.errors import UsageError
from mlobs.events import RunStarted
from mlobs.moving.source import Piece, SourceRun
from mlobs.moving.wandb_file import records
from mlobs.moving.wandb_records import Decoder, moment
from mlobs.read.status import NOBODY

QUIET_S = 600.0  # a file without an end that was not written for so long belongs to a process that died


def wandb_runs(location: str, experiment: str | None = None) -> Iterator[SourceRun]:
    """Yield the runs in a file `run-*.wandb`, or in those in and below a folder. A project is an experiment.

    A run that was resumed has several files, and is one run.

    Raises:
        UsageError: there are no such files, one is damaged, or the package `wandb` is not installed.
    """
    top = Path(location).expanduser().absolute()
    files = (
        [top] if top.is_file() else sorted({one.resolve() for one in top.rglob("run-*.wandb")})
    )  # `latest-run` is a link
    if not files:
        raise UsageError(
            f"there is no run-*.wandb in {location!r} - give W&B's folder `wandb`, or such a file"
        )
    by_run: dict[str, list[Path]] = {}
    firsts: dict[str, Any] = {}
    for file in files:
        first = next((one.run for one in records(file) if one.WhichOneof("record_type") == "run"), None)
        if first is not None:
            identity = f"wandb:{first.project or 'uncategorized'}/{first.run_id}"
            by_run.setdefault(identity, []).append(file)
            firsts.setdefault(identity, first)
    for identity, parts in by_run.items():
        first, left_out = firsts[identity], Counter[str]()
        start = RunStarted(
            at=moment(first.start_time),
            run_id="",
            experiment=experiment or first.project or "uncategorized",
            name=first.display_name or first.run_id,
            process=NOBODY,
        )
        pieces = partial(_pieces, parts, left_out)
        yield SourceRun(identity, start, pieces, str(parts[0]), left_out=left_out)


def _pieces(files: Sequence[Path], left_out: Counter[str]) -> Iterator[Piece]:
    left_out.clear()
    decoder = Decoder(left_out)
    for file in files:
        decoder.folder = file.parent / "files"
        for record in records(file):
            yield from decoder.decode(record)
    for file in files:
        yield from decoder.files(file.parent / "files")
    is_quiet = time.time() - max(file.stat().st_mtime for file in files) > QUIET_S
    yield from decoder.finish(is_quiet=is_quiet)
