"""Runs in a log folder of TensorBoard: each folder that holds event files is one, as TensorBoard shows it."""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import hashlib
import itertools
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from mlobs.backends.tensorboard import TensorBoard
from mlobs.backends.tensorboard_place import Ref
from mlobs.errors import UsageError
from mlobs.events import Params, RunFinished, RunStarted, Tags
from mlobs.moving.source import Piece, SourceRun
from mlobs.read.status import NOBODY

QUIET_S = 600.0  # event files do not say that a run ended: one that was not written for so long did
_UNTOLD = "event files do not say how the run ended"
_OURS = re.compile(r"\.mlobs-[0-9a-f]{16}\.run\Z")
_ROW = re.compile(r"^\| `+ ?(?P<name>\w+) ?`+ \| `+ ?(?P<value>.*?) ?`+ \|$", re.MULTILINE)
_RUN_TAG = "run/text_summary"


def tensorboard_runs(logdir: str, experiment: str | None = None) -> Iterator[SourceRun]:
    """Yield a run for each folder in and below `logdir` that holds event files with something in them.

    Their experiment is called like the log folder, unless another name is given.

    Raises:
        UsageError: there is no such folder, or no event file in it.
        MissingPackage: `tensorboard` is not installed.
    """
    top = Path(logdir).expanduser().absolute()
    if not top.is_dir():
        raise UsageError(f"there is no folder {logdir!r} - give the log folder of TensorBoard")
    TensorBoard(str(top)).source()  # says what to install where the vendor is missing
    folders = dict(_folders(top))
    if not folders:
        raise UsageError(f"there are no event files in {logdir!r} - they have 'tfevents' in their names")
    seen: set[str] = set()
    for folder, files in folders.items():
        run = _run(top, folder, files, experiment or top.name or "tensorboard")
        if run is None:
            continue
        if (
            run.identity in seen
        ):  # a copy, which may have been gone on with: a run of its own, as to TensorBoard
            run = replace(run, identity=f"{run.identity}:{folder.relative_to(top).as_posix()}")
        seen.add(run.identity)
        yield run


def _folders(top: Path) -> Iterator[tuple[Path, list[Path]]]:
    for folder, _, names in sorted(os.walk(top, followlinks=True)):
        files = [Path(folder, name) for name in sorted(names) if "tfevents" in name]
        if files:
            yield Path(folder), files


def _run(top: Path, folder: Path, files: Sequence[Path], experiment: str) -> SourceRun | None:
    own = [file for file in files if _OURS.search(file.name)]
    first = _first(own or files)
    if first is None:
        return None
    identity, at, opening = first
    relative = folder.relative_to(top).as_posix()
    name = top.name if relative == "." else relative
    start = RunStarted(at, "", experiment, name, NOBODY)
    left_out: Counter[str] = Counter()
    known = _facts_of(opening) if own else {}
    if "run_id" in known:
        start = msgspec.structs.replace(
            start,
            run_id=known["run_id"],
            experiment=known.get("experiment", ""),
            name=known.get("name", ""),
            parent_run_id=known.get("parent_run_id") or None,
        )
        return SourceRun(
            identity, start, lambda: _own_pieces(top, own), str(folder), is_ours=True, left_out=left_out
        )
    return SourceRun(identity, start, lambda: _pieces(files, left_out), str(folder), left_out=left_out)


def _first(files: Sequence[Path]) -> tuple[str, float, Any] | None:
    """Return the identity, the start and the first Event with a content; None if the files hold nothing.

    The file's name and its first two records name the run: they stay the same while it grows, and
    wherever it is moved to.
    """
    from mlobs.backends import tensorboard_file

    for file in files:
        head = list(itertools.islice(tensorboard_file.read(file), 2))
        if len(head) == 2:  # noqa: PLR2004 - header and content
            digest = hashlib.blake2b(file.name.encode(), digest_size=16)
            for event in head:
                digest.update(event.SerializeToString(deterministic=True))
            at = min(event.wall_time for event in head)  # of a converted file the content is older
            return f"tensorboard:{digest.hexdigest()}", at, head[1]
    return None


def _facts_of(event: Any) -> Mapping[str, str]:
    """Read the table of facts that mlobs writes first."""
    for value in event.summary.value:
        if value.tag == _RUN_TAG:
            text = value.tensor.string_val[0].decode("utf-8", "replace")
            return {row["name"]: row["value"] for row in _ROW.finditer(text)}
    return {}


def _pieces(files: Sequence[Path], left_out: Counter[str]) -> Iterator[Piece]:
    from mlobs.backends import tensorboard_file
    from mlobs.moving.tensorboard_values import Decoder

    left_out.clear()
    decoder, latest = Decoder(left_out), 0.0
    for file in files:
        for event in tensorboard_file.read(file):
            latest = max(latest, event.wall_time)
            yield from decoder.decode(event)
    if decoder.end is not None:
        yield msgspec.structs.replace(decoder.end, at=max(latest, decoder.end.at))
    elif time.time() - _written(files) > QUIET_S:
        yield RunFinished(latest, "FINISHED", _UNTOLD)


def _own_pieces(top: Path, files: Sequence[Path]) -> Iterator[Piece]:
    """Read what mlobs wrote, exactly; the end of one of several writers comes last."""
    source, end = TensorBoard(str(top)).source(), None
    for file in files:
        ref = Ref(file.relative_to(top).as_posix(), has_facts=file.with_suffix(".facts").exists())
        for event in source.read(ref.to_text()):
            if isinstance(event, RunFinished):
                end = event
            elif isinstance(event, Params | Tags) and file != files[0]:
                continue  # the first file's facts are the run's
            else:
                yield event
    if end is not None:
        yield end


def _written(files: Sequence[Path]) -> float:
    """When the youngest of the files was written last (Unix seconds)."""
    moments = [0.0]
    for file in files:
        with suppress(OSError):  # it was removed meanwhile
            moments.append(file.stat().st_mtime)
    return max(moments)
