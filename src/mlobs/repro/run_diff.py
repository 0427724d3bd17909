"""What differs between two runs, of all that went into them and came out."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mlobs.errors import MlobsError
from mlobs.read.html import sections_html
from mlobs.read.location import StoreLike
from mlobs.repro.causes import code_changes, seed_changes, start_changes
from mlobs.repro.comparison import Divergence, Tolerance, compare
from mlobs.repro.differences import diff_environments
from mlobs.repro.material import Material, readable
from mlobs.repro.whole_run import load_whole_run

_EXACT = Tolerance(rtol=0.0)


class RunDiff(msgspec.Struct, frozen=True):
    """Two runs beside each other, a line for each difference.

    `code` is a unified diff, line by line, of both programs' code as it was; `metrics` are those with other
    values, with the first step at which they part. `doubts` are the data and the parts of a
    snapshot of which nobody can tell.
    """

    runs: tuple[str, str]
    params: tuple[str, ...]
    datasets: tuple[str, ...]
    entry: tuple[str, ...]
    environment: tuple[str, ...]
    code: tuple[str, ...]
    metrics: tuple[Divergence, ...]
    results: tuple[str, ...]
    doubts: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Nothing differs, as far as it was recorded."""
        parts = (
            self.params,
            self.datasets,
            self.entry,
            self.environment,
            self.code,
            self.metrics,
            self.results,
        )
        return not any(parts)

    def _repr_html_(self) -> str:
        lines = [f"{one.metric}: {one.first!r} -> {one.second!r} at step {one.step}" for one in self.metrics]
        names = ("params", "datasets", "entry", "environment", "code")
        sections = {name: getattr(self, name) for name in names} | {
            "metrics": lines,
            "results": self.results,
            "cannot be told": self.doubts,
        }
        return sections_html(" -> ".join(self.runs), sections)


def diff_runs(first: str, second: str, *, store: StoreLike = None) -> RunDiff:
    """Return what differs between two runs of a store.

    Raises:
        UsageError: there is no such run.
        StoreError: there is no such store.
    """
    one, two = (Material.of(load_whole_run(run, store)) for run in (first, second))
    found = compare(one.run, two.run, _EXACT)
    return RunDiff(
        runs=(one.run.run_id, two.run.run_id),
        params=found.params,
        datasets=found.datasets,
        entry=tuple(entry_diff(one, two)),
        environment=tuple(diff_environments(one.surroundings, two.surroundings)),
        code=tuple(code_diff(one, two)),
        metrics=found.divergences,
        results=(*found.unmatched, *found.model_differences),
        doubts=(
            *found.uncertain,
            *(f"{side.run.run_id}: {line}" for side in (one, two) for line in side.unknown()),
        ),
    )


def entry_diff(one: Material, two: Material) -> list[str]:
    """Say what is other in how the programs were started, the seed included."""
    return [*start_changes(one, two), *seed_changes(one, two)]


def code_diff(one: Material, two: Material) -> list[str]:
    """Compare the programs' files; where a tree cannot be restored here, say which trees differ."""
    changed = code_changes(one, two)
    if not changed:
        return []
    with tempfile.TemporaryDirectory(prefix="mlobs-diff-") as temporary:
        folders = [Path(temporary) / name for name in ("a", "b")]
        try:
            for material, folder in zip((one, two), folders, strict=True):
                material.restore(folder)
        except MlobsError as error:
            return [*changed, f"the files cannot be compared here: {readable(error)}"]
        return list(_unified(*folders))


def _unified(before: Path, after: Path) -> Iterator[str]:
    for name in sorted(_files(before) | _files(after)):
        contents = [_content(folder / name) for folder in (before, after)]
        if contents[0] == contents[1]:
            continue
        texts = [_lines(content) for content in contents]
        if texts[0] is None or texts[1] is None:
            yield f"binary file {name} differs"
        else:
            yield from difflib.unified_diff(texts[0], texts[1], f"a/{name}", f"b/{name}", lineterm="")


def _files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or path.is_file()
    }


def _content(path: Path) -> bytes:
    if path.is_symlink():
        return b"-> " + str(path.readlink()).encode("utf-8", "surrogateescape")
    return path.read_bytes() if path.is_file() else b""


def _lines(content: bytes) -> list[str] | None:
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError:
        return None
