"""What the sender captures of a program: its code and its environment, kept once per content."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mlobs.errors import MlobsError
from mlobs.events import BackendSpec, RunStarted, Snapshot
from mlobs.journal import access
from mlobs.journal.store import Store
from mlobs.journal.writer import Writer
from mlobs.repro.code import CodeRoot, Outputs, snapshot_code
from mlobs.repro.environment import capture_environment
from mlobs.repro.gpus import capture_gpus
from mlobs.repro.uncaptured import UNCAPTURED, find_uncaptured, folders_outside, module_files
from mlobs.secrets import masked

# parts of the snapshot
CODE, PATCH, ENVIRONMENT, GPUS, FILES = "code", "patch", "environment", "gpus", "files"
_MOST_NAMED = 100


class Captured(NamedTuple):
    """One part of a snapshot: its facts and the file that belongs to it, or why it is missing."""

    part: str
    facts: dict[str, Any]
    kept: Path | None = None
    missing: str | None = None


def capture(
    store: Store, start: RunStarted, entry: Mapping[str, Any], *, is_full: bool = False
) -> Iterator[Captured]:
    """Capture the code and the environment of the program that opened a run, as they are now.

    The parts come one by one, the slowest last: who records each at once loses none that was ready.

    `entry` says how it was started, see `entry_facts`. With `is_full` the code is kept whole, with what
    has been pushed, and the files of installed packages are compared with what was installed. What
    cannot be captured is there with its reason.

    Raises:
        OSError: the store cannot be written.
    """
    place = store.snapshots
    access.make_folder(place)
    yield from _part(CODE, lambda: _code(place, start, entry, is_full=is_full))
    yield from _part(ENVIRONMENT, lambda: _environment(place, Path(entry.get("cwd") or ".")))
    if is_full:
        yield from _part(FILES, _changed_files)


def capture_modules(
    store: Store,
    start: RunStarted,
    entry: Mapping[str, Any],
    modules: Mapping[str, Any],
    roots: Sequence[CodeRoot],
    *,
    is_full: bool = False,
) -> list[Captured]:
    """Capture what only the program's end tells: code from elsewhere than the `roots`, and what they lack.

    `modules` are the facts of what was loaded by then.

    Raises:
        OSError: the store cannot be written.
    """
    own = module_files(modules)
    loose = [Path(one) for one in modules.get("loose", ())]
    around = [CodeRoot(str(one.resolve()), "", "", "git") for one in loose if one.is_dir()]
    outside = folders_outside([*roots, *around], [one for one in own if one not in loose], _script(entry))
    loose += [one for one in outside if one not in loose]
    captured = []
    if loose:
        captured = _part(
            f"{CODE}/loose", lambda: _code(store.snapshots, start, entry, loose, is_full=is_full)
        )
        fresh = [one for one in captured if one.part.startswith(f"{CODE}/") and one.missing is None]
        roots = [*roots, *(msgspec.convert(one.facts, CodeRoot) for one in fresh)]
    return captured + _part(UNCAPTURED, lambda: _uncaptured(roots, own))


def _uncaptured(roots: Sequence[CodeRoot], own: Sequence[Path]) -> Iterator[Captured]:
    if files := find_uncaptured(roots, own):
        yield Captured(UNCAPTURED, {"files": msgspec.to_builtins(files)})


def record(captured: Iterable[Captured], writer: Writer) -> None:
    """Write what was captured into a run, which gets links to the files.

    Raises:
        StoreError: the store cannot be written.
    """
    for part, facts, kept, missing in captured:
        ordinal = None
        if kept is not None:
            ordinal, facts["size_bytes"] = writer.keep_link(kept)
        writer.append(Snapshot(time.time(), part, facts, ordinal, missing))


def _part(part: str, find: Callable[[], Iterator[Captured]]) -> list[Captured]:
    try:
        return list(find())
    except MlobsError as error:
        return [Captured(part, {}, missing=masked(str(error)))]
    except Exception as error:  # other people's repositories and disks: the rest is captured all the same
        return [Captured(part, {}, missing=masked(f"{type(error).__name__}: {error}"))]


def _code(
    place: Path, start: RunStarted, entry: Mapping[str, Any], loose: Sequence[Path] = (), *, is_full: bool
) -> Iterator[Captured]:
    with _scratch(place) as scratch:
        script, cwd = _script(entry), entry.get("cwd")
        found = snapshot_code(
            None if script is not None or not cwd else Path(cwd),
            script=script,
            scratch=scratch,
            started_at=start.at,
            loose=loose,
            outputs=Outputs(frozenset([place.parent]), frozenset(_outputs(start.backends, script, cwd))),
            is_whole=is_full,
        )
        for root in found.loose if loose else found.roots:
            yield from _root(place, root, found.packs.get(root.tree))
        for one in found.loose_missing if loose else found.missing:
            yield Captured(f"{CODE}/{Path(one.path).name}", {"path": one.path}, missing=one.reason)


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """Make a folder for the while.

    A TemporaryDirectory is removed when the interpreter begins to exit; a capture in a thread of the
    program goes on then.
    """
    folder = Path(tempfile.mkdtemp(prefix=".capturing-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _root(place: Path, root: CodeRoot, pack: Path | None) -> Iterator[Captured]:
    name = f"{root.tree}{'' if root.base is None else '-' + root.base[:12]}"
    facts = {**msgspec.to_builtins(root), "file": f"{root.tree[:12]}.pack"}
    facts.pop("patch", None)
    yield Captured(_part_of(CODE, root), facts, None if pack is None else _kept(place / f"{name}.pack", pack))
    if root.patch:
        content = root.patch.encode("utf-8", "surrogateescape")
        kept = _kept(place / f"{name}.diff", content)
        yield Captured(_part_of(PATCH, root), {"file": "changes.diff"}, kept)


def _environment(place: Path, cwd: Path) -> Iterator[Captured]:
    from blake3 import blake3

    found = capture_environment(sys.path, folder=cwd)
    content = msgspec.json.format(msgspec.json.encode(found), indent=1)
    facts = {
        "digest": found.digest,
        "python": f"{found.python['implementation']} {found.python['version']}",
        "packages": len(found.packages),
        "file": "environment.json",
    }
    yield Captured(ENVIRONMENT, facts, _kept(place / f"{blake3(content).hexdigest(32)}.json", content))
    gpus = capture_gpus()
    if gpus.gpus:
        yield Captured(GPUS, gpus.to_facts())


def _changed_files() -> Iterator[Captured]:
    from mlobs.repro.tampering import verify_files

    changed = [f"{one.package}: {one.path}: {one.reason}" for one in verify_files()]
    yield Captured(FILES, {"changed": changed[:_MOST_NAMED], "count": len(changed)})


def _outputs(backends: Iterable[BackendSpec], script: Path | None, cwd: str | None) -> Iterator[Path]:
    """Where backends write on this machine, unless the program itself lies or runs there."""
    programs = [*([script] if script is not None else []), *([Path(cwd)] if cwd else [])]
    for spec in backends:
        for place in _places(spec):
            if not any(one.is_relative_to(place) for one in programs):
                yield place


def _places(spec: BackendSpec) -> Iterator[Path]:
    for value in spec.params.values():
        text = value.removeprefix("sqlite:///") if isinstance(value, str) else ""
        if os.path.isabs(text):  # noqa: PTH117 - a text of any kind
            yield Path(text)
            if text != value:  # a database: what lies beside it while it is used, MLflow's place for files
                yield from (Path(text + end) for end in (".lock", "-journal", "-wal", "-shm"))
                yield Path(text).parent / "mlruns"


def _script(entry: Mapping[str, Any]) -> Path | None:
    target = entry.get("target")
    return Path(target) if entry.get("kind") in ("script", "notebook") and target else None


def _part_of(part: str, root: CodeRoot) -> str:
    return part if root.place == "" else f"{part}/{root.place}"


def _kept(path: Path, content: Path | bytes) -> Path:
    """Put content into the store under a name that says what it is, unless it is there."""
    if path.exists():
        access.make_young(path)
        return path
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
    with os.fdopen(access.open_file(unfinished, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(content.read_bytes() if isinstance(content, Path) else content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    return path
