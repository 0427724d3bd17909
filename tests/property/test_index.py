"""Whatever happens to a store between two looks, the index says what its journals say."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mlobs.events import Metrics, Params, Rewind, RunFinished, RunStarted, Tags
from mlobs.journal.process import this_process
from mlobs.journal.store import Store
from mlobs.journal.writer import Writer
from mlobs.read.point_cache import PointReader
from mlobs.read.points import that_count
from mlobs.read.record import liveness, read_run, scan_writers
from mlobs.read.run_index import RunIndex
from mlobs.read.run_summary import RunSummary

_values = st.floats() | st.sampled_from([0.0, -0.0, 1.0])
_step = st.one_of(
    st.tuples(st.just("open"), st.integers(0, 2)),
    st.tuples(st.just("metric"), st.integers(0, 2), st.sampled_from("ab"), st.integers(-2, 4), _values),
    st.tuples(
        st.just("param"), st.integers(0, 2), st.sampled_from("ab"), st.integers() | st.text() | st.none()
    ),
    st.tuples(st.just("rewind"), st.integers(0, 2), st.integers(-1, 4)),
    st.tuples(st.just("end"), st.integers(0, 2), st.sampled_from(["FINISHED", "FAILED"])),
    st.tuples(st.just("close"), st.integers(0, 2)),
    st.tuples(st.just("delete"), st.integers(0, 2)),
    st.tuples(st.just("look")),
)


class _World:
    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.store.create()
        self.writers: dict[int, Writer] = {}
        self.at = 1000.0

    def do(self, what: str, *arguments) -> None:
        self.at += 1
        if what != "look":
            getattr(self, what)(*arguments)
        self.check()

    def open(self, run: int) -> None:
        if run in self.writers:
            return
        folder = self.store.new_run(f"run-{run}", is_shared=True)
        is_opener = not folder.journals()
        writer = self.writers[run] = Writer(folder.path, folder.run_id, is_opener=is_opener)
        if is_opener:
            writer.append(RunStarted(self.at, folder.run_id, "churn", f"{run}", this_process()))

    def append(self, run: int, event) -> None:
        if run in self.writers:
            self.writers[run].append(event)

    def metric(self, run: int, name: str, step: int, value: float) -> None:
        self.append(run, Metrics(self.at, step, {name: value}))

    def param(self, run: int, name: str, value) -> None:
        in_range = not isinstance(value, int) or -(2**63) <= value < 2**64
        self.append(run, Params(self.at, {name: value if in_range else 0}))
        self.append(run, Tags(self.at, {name: "x"}))

    def rewind(self, run: int, step: int) -> None:
        self.append(run, Rewind(self.at, step))

    def end(self, run: int, status: str) -> None:
        self.append(run, RunFinished(self.at, status))

    def close(self, run: int) -> None:
        if run in self.writers:
            self.writers.pop(run).close()

    def delete(self, run: int) -> None:
        self.close(run)
        shutil.rmtree(self.store.run(f"run-{run}").path, ignore_errors=True)

    def check(self) -> None:
        folders = list(self.store.runs())
        records = [one for one in (read_run(folder, liveness()) for folder in folders) if one is not None]
        for is_first in (True, False):
            with RunIndex(self.store, worth_bytes=0) as index:
                assert repr(list(index.summaries())) == repr([RunSummary.of(one) for one in records])
            reader = PointReader(liveness(), worth_points=1)
            for folder in folders:
                scans = scan_writers(folder, liveness(), {})
                if is_first:  # in parts before all at once: each keeps the points in its own way
                    list(PointReader(liveness(), large_bytes=1).parts(folder, 2))
                found = reader.points(folder)
                assert (found is None) == (not scans)
                if found is not None:
                    expected = _rows(that_count([one.points for one in scans]))
                    assert _rows(found[0]) == expected
                    parts = PointReader(liveness(), worth_points=1, large_bytes=1).parts(folder, 2)
                    assert [row for part, _ in parts for row in _rows(part)] == expected
        shutil.rmtree(self.store.cache / "points", ignore_errors=True)


def _rows(points) -> list[tuple]:
    names = list(points.names)
    return [
        (names[code], step, value.hex(), at)
        for code, step, value, at in zip(points.codes, points.steps, points.values, points.ats, strict=True)
    ]


@given(st.lists(_step, max_size=14))
@settings(deadline=None, max_examples=60)
def test_the_index_and_the_kept_points_are_what_the_journals_say(steps):
    with tempfile.TemporaryDirectory() as folder:
        world = _World(Path(folder) / "store")
        for step in steps:
            world.do(*step)
        for writer in world.writers.values():
            writer.close()
