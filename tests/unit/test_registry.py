"""The store remembers every version of a dataset, and notices one that comes back with other data."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

import mlobs
from mlobs.events import Dataset
from mlobs.journal.store import Store
from mlobs.repro.recorded_data import digests_of, types_of
from mlobs.repro.registry import find, register, short_version, versions


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    made.create()
    return made


def keep(store, data, version="1", name="sales", run_id="run-1", at=1000.0):
    found = mlobs.fingerprint(data)
    event = Dataset(
        at,
        name,
        version,
        found.text,
        found.strength,
        rows=found.rows,
        columns=types_of(found),
        meta={"notes": found.notes},
    )
    return register(store, run_id, event, digests_of(found), found.size_bytes)


FRAME = pd.DataFrame({"x": [1.0, 2.0], "y": ["a", "b"]})


def test_the_same_version_with_the_same_data_is_nothing_new(store):
    assert keep(store, FRAME) is None
    assert keep(store, FRAME, run_id="run-2", at=2000.0) is None
    (kept,) = versions(store)
    assert (kept.name, kept.version, kept.run_id, kept.at, kept.rows) == ("sales", "1", "run-1", 1000.0, 2)
    assert kept.label == "1"


def test_the_same_version_with_other_data_is_found_with_its_change(store):
    keep(store, FRAME)
    other = keep(store, FRAME.assign(x=[1.0, 3.0]), run_id="run-2", at=2000.0)
    assert other.run_id == "run-1"
    found = mlobs.fingerprint(FRAME.assign(x=[1.0, 3.0]))
    assert mlobs.diff_fingerprints(other.as_fingerprint(), found) == ["column x changed"]


def test_the_latest_of_several_others_is_named(store):
    for number in range(1, 4):
        keep(store, FRAME.assign(x=float(number)), run_id=f"run-{number}", at=1000.0 * number)
    assert keep(store, FRAME, run_id="run-4", at=9000.0).run_id == "run-3"


def test_rows_in_another_order_are_said_to_be_that(store):
    keep(store, FRAME)
    other = keep(store, FRAME[::-1], at=2000.0)
    assert mlobs.diff_fingerprints(other.as_fingerprint(), mlobs.fingerprint(FRAME[::-1])) == [
        "same rows, other order"
    ]


def test_another_version_another_name_and_no_version_never_clash(store):
    keep(store, FRAME)
    changed = FRAME.assign(x=0.0)
    assert keep(store, changed, version="2") is None
    assert keep(store, changed, name="other") is None
    assert keep(store, changed, version=None) is None
    assert keep(store, FRAME, version=None) is None
    labels = [one.label for one in versions(store, "sales")]
    texts = [mlobs.fingerprint(one).text for one in (changed, FRAME)]
    assert sorted(labels) == sorted(["1", "2", *map(short_version, texts)])


def test_fingerprints_of_two_kinds_say_nothing_about_each_other(store, tmp_path):
    (tmp_path / "sales.csv").write_text("x\n1\n")
    keep(store, FRAME)
    assert keep(store, tmp_path / "sales.csv", at=2000.0) is None


@pytest.mark.parametrize("name", ["a/b c", "ö" * 200, "..", "CON", "a:b", "x" * 500, "A", "a"])
def test_any_name_has_versions_of_its_own(store, name):
    keep(store, FRAME, name=name)
    keep(store, FRAME, name=name + "!")
    assert [one.name for one in versions(store, name)] == [name]
    assert find(store, name, mlobs.fingerprint(FRAME).text).name == name
    assert find(store, name, "tfp1:0") is None
    assert all(path.parent.parent == store.datasets for path in store.datasets.rglob("*.json"))


def test_a_damaged_file_hides_its_version_alone(store):
    keep(store, FRAME, version="1")
    keep(store, FRAME, version="2")
    damaged, whole = sorted(store.datasets.rglob("*.json"))
    gone = json.loads(damaged.read_text())["version"]
    damaged.write_bytes(whole.read_bytes()[:20])
    assert [one.version for one in versions(store)] == [{"1": "2", "2": "1"}[gone]]
    assert keep(store, FRAME.assign(x=0.0), version=gone) is None


def test_a_damaged_version_is_written_again_by_the_next_run_that_uses_it(store):
    keep(store, FRAME)
    (path,) = store.datasets.rglob("*.json")
    path.write_bytes(b"")
    keep(store, FRAME, run_id="run-2")
    assert [one.run_id for one in versions(store)] == ["run-2"]


def test_files_of_others_and_of_a_newer_mlobs_are_no_trouble(store):
    keep(store, FRAME)
    (path,) = store.datasets.rglob("*.json")
    document = json.loads(path.read_text())
    (path.parent / "newer.json").write_text(json.dumps(document | {"version": "9", "from_the_future": [1]}))
    (path.parent / "notes.txt").write_text("not ours")
    (store.datasets / "files.cache").write_bytes(b"not a folder")
    assert {one.version for one in versions(store)} == {"1", "9"}


def test_a_store_that_nobody_used_has_no_versions(tmp_path):
    assert versions(Store(tmp_path / "nowhere")) == []
    assert versions(Store(tmp_path / "nowhere"), "sales") == []


def test_threads_that_register_at_once_leave_whole_files_alone(store):
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda number: keep(store, FRAME.assign(x=float(number % 4)), str(number % 2)), range(64)
            )
        )
    assert len(versions(store)) == 4
    assert not list(store.datasets.rglob(".*"))


_PROCESS = """
import sys, pandas as pd
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from mlobs.journal.store import Store
from test_registry import keep
for number in range(40):
    keep(Store(Path(sys.argv[1])), pd.DataFrame({"x": [float(number % 5)]}), run_id=sys.argv[3])
"""


def test_processes_that_register_at_once_lose_nothing(store):
    here = Path(__file__).parent
    started = [
        subprocess.Popen([sys.executable, "-c", _PROCESS, str(store.path), here, f"run-{one}"])
        for one in range(3)
    ]
    assert [one.wait(60) for one in started] == [0, 0, 0]
    assert len(versions(store, "sales")) == 5
