"""What is kept to read faster never changes an answer, and may be gone, damaged, old or somebody else's."""

import os
import shutil
import subprocess
import sys

import msgspec
import pandas as pd
import pytest
from recorded import ELSEWHERE, add_writer, flip, open_run, record_run, vanished_run, write_as

import mlobs
from mlobs.events import Metrics, Params, RunFinished, RunStarted
from mlobs.journal.store import Store
from mlobs.read.cache_file import block_of
from mlobs.read.record import liveness, read_run
from mlobs.read.run_index import RunIndex
from mlobs.read.run_summary import RunSummary

MANY = 2000  # points that are worth being kept


def directly(store):
    """Every run as its journals say, past all that is kept."""
    records = [read_run(folder, liveness()) for folder in store.runs()]
    return [RunSummary.of(one) for one in records if one is not None]


def kept(store, worth_bytes=0):
    """Every run through the index, which is written at once."""
    with RunIndex(store, worth_bytes) as index:
        return list(index.summaries())


def lines(store):
    """The runs that the index answers for without opening a journal."""
    return set(RunIndex(store)._lines)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    for number in range(3):
        at = 1000.0 + 100 * number
        record_run(made, Params(at, {"n": number}), Metrics(at + 1, 0, {"loss": float("nan")}), at=at)
    return made


def test_runs_come_the_same_from_the_index_as_from_their_journals(store):
    assert repr(kept(store)) == repr(kept(store)) == repr(directly(store))
    assert lines(store) == {folder.run_id for folder in store.runs()}


def test_a_small_store_is_left_as_it_is(store):
    mlobs.runs(store=store)
    assert not store.cache.exists()


def test_the_index_is_written_once_it_is_worth_it(tmp_path):
    store = Store(tmp_path / "store")
    for number in range(40):
        record_run(store, at=1000.0 + number)
    first = mlobs.runs(store=store)
    assert len(lines(store)) == 40
    pd.testing.assert_frame_equal(mlobs.runs(store=store), first)


def test_a_run_that_is_written_to_is_always_read_anew(store):
    folder, writer = open_run(store, at=5000.0)
    assert kept(store)[-1].status == "RUNNING"
    for step in range(3):
        writer.append(Metrics(5001.0 + step, step, {"loss": float(step)}))
        assert kept(store)[-1].last_metrics == {"loss": float(step)}
    assert folder.run_id not in lines(store)

    writer.append(RunFinished(5060.0, "FINISHED"))
    assert kept(store)[-1].status == "FINISHED"
    assert folder.run_id not in lines(store), "its file is still open"
    writer.close()
    assert kept(store)[-1].status == "FINISHED"
    assert folder.run_id in lines(store)


def test_another_writer_that_is_still_there_keeps_a_run_out_of_the_index(store):
    folder, opener = open_run(store, at=5000.0)
    late = add_writer(folder)
    opener.append(RunFinished(5060.0, "FINISHED"))
    opener.close()
    kept(store)
    add_writer(folder, Metrics(5061.0, 1, {"late": 1.0}))
    assert kept(store)[-1].last_metrics == {"late": 1.0}
    del late


def test_what_is_added_to_a_run_that_had_ended_is_seen(store):
    kept(store)
    folder = next(iter(store.runs()))
    add_writer(folder, Metrics(9000.0, 5, {"late": 1.0}))
    assert kept(store)[0].last_metrics["late"] == 1.0
    write_as(
        folder,
        ELSEWHERE,
        RunStarted(9100.0, folder.run_id, "churn", "again", ELSEWHERE, attempt=2),
        is_opener=True,
        at=9100.0,
    )
    assert kept(store)[0].status == directly(store)[0].status == "RUNNING"


def test_runs_that_are_deleted_are_gone_also_from_the_index(store):
    kept(store)
    gone = list(store.runs())[1]
    shutil.rmtree(gone.path)
    assert len(kept(store)) == 2
    record_run(store, at=9000.0)
    kept(store)
    assert gone.run_id not in lines(store)


def test_the_points_of_deleted_runs_are_removed(store):
    folder = record_run(store, *[Metrics(2000.0 + n, n, {"loss": n}) for n in range(MANY)], at=2000.0)
    mlobs.metrics(store=store)
    file = store.cache / "points" / folder.run_id
    assert file.exists()
    shutil.rmtree(folder.path)
    kept(store)
    assert not file.exists()


def test_a_vanished_run_is_judged_anew_each_time(store):
    folder = vanished_run(store, at=5000.0)
    assert kept(store)[-1].status == "CRASHED"
    assert folder.run_id not in lines(store)
    add_writer(folder, RunFinished(5100.0, "CRASHED", "process vanished"))
    assert kept(store)[-1].reason == "process vanished"
    assert folder.run_id in lines(store), "its end is recorded, and its writers are dead"


def test_a_damaged_run_is_read_anew_each_time(store):
    folder = next(iter(store.runs()))
    flip(folder.journals()[0], 300)
    kept(store)
    assert folder.run_id not in lines(store)


@pytest.mark.parametrize("how", ["cut", "flip", "empty", "head", "older", "garbage", "other"])
@pytest.mark.parametrize("what", ["runs", "points"])
def test_a_file_that_is_damaged_or_of_another_version_is_ignored_and_made_again(store, what, how):
    folder = record_run(store, *[Metrics(2000.0 + n, n, {"loss": n}) for n in range(MANY)], at=2000.0)
    expected, points = repr(kept(store)), mlobs.metrics(store=store)
    file = store.cache / "runs" if what == "runs" else store.cache / "points" / folder.run_id
    content = file.read_bytes()
    damaged = {
        "cut": content[: len(content) // 2],
        "flip": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        "empty": b"",
        "head": content[:20],
        "older": content.replace(b" 1\n", b" 0\n", 1),
        "garbage": os.urandom(5000),
        "other": content[:20] + block_of(msgspec.msgpack.encode({"a": [1, 2]})),
    }
    file.write_bytes(damaged[how])

    assert repr(kept(store)) == expected
    pd.testing.assert_frame_equal(mlobs.metrics(store=store), points)
    assert sum(map(len, mlobs.metric_frames(store=store))) == len(points)
    if what == "points":
        assert file.read_bytes() == content


def test_a_copied_store_reads_the_same_with_its_cache_or_without(store, tmp_path):
    record_run(store, *[Metrics(2000.0 + n, n, {"loss": n}) for n in range(MANY)], at=2000.0)
    expected, points = repr(kept(store)), mlobs.metrics(store=store)
    for copy in (shutil.copy2, shutil.copy):  # with the times of the files, or new ones
        copied = Store(tmp_path / copy.__name__)
        shutil.copytree(store.path, copied.path, copy_function=copy)
        assert repr(kept(copied)) == expected
        pd.testing.assert_frame_equal(mlobs.metrics(store=copied), points)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="permissions do not bind root")
def test_a_store_that_can_only_be_read_is_read(store):
    record_run(store, *[Metrics(2000.0 + n, n, {"loss": n}) for n in range(MANY)], at=2000.0)
    store.path.chmod(0o500)
    try:
        assert len(kept(store)) == 4
        assert len(mlobs.metrics(store=store)) == MANY + 3
        assert not store.cache.exists()
    finally:
        store.path.chmod(0o700)


def test_a_place_where_no_cache_can_be_made_is_read(store):
    store.cache.write_text("in the way")
    record_run(store, *[Metrics(2000.0 + n, n, {"loss": n}) for n in range(MANY)], at=2000.0)
    assert len(kept(store)) == 4
    assert len(mlobs.metrics(store=store)) == MANY + 3
    assert store.cache.read_text() == "in the way"


_AGAIN = """
import sys
from pathlib import Path
from mlobs.journal.store import Store
from mlobs.read.run_index import RunIndex
import mlobs
store = Store(Path(sys.argv[1]))
for _ in range(15):
    with RunIndex(store, 0) as index:
        index._lines.clear()  # as if it had never been read
        assert len(list(index.summaries())) >= 3
    assert len(mlobs.metrics(store=store, keys="many")) == 2000
    for file in (store.cache / "points").glob("2*"):
        file.unlink(missing_ok=True)
"""


def test_readers_and_writers_at_once_all_read_the_same(store):
    record_run(store, *[Metrics(2000.0 + n, n, {"many": n}) for n in range(MANY)], at=2000.0)
    processes = [
        subprocess.Popen([sys.executable, "-c", _AGAIN, str(store.path)], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for number in range(10):
        record_run(store, at=9000.0 + number)
        kept(store)
    failures = [errors for one in processes if (errors := one.communicate(timeout=100)[1]) or one.returncode]
    assert not failures
    assert repr(kept(store)) == repr(directly(store))
    assert not [file for file in store.cache.rglob(".*") if file.is_file()]


def test_runs_whose_ids_somebody_chose_keep_their_order(tmp_path):
    store = Store(tmp_path / "store")
    for run_id, at in (("zebra", 1000.0), ("ape", 2000.0), ("lion", 1500.0)):
        _, writer = open_run(store, RunFinished(at + 1, "FINISHED"), run_id=run_id, at=at)
        writer.close()
    before = [one.run_id for one in kept(store)]
    assert [one.run_id for one in kept(store)] == before == [folder.run_id for folder in store.runs()]


def test_names_of_several_runs_are_told_apart_also_from_kept_points(tmp_path):
    store = Store(tmp_path / "store")
    record_run(store, *[Metrics(1001.0 + n, n, {"a": n, "b": -n}) for n in range(MANY)])
    record_run(store, *[Metrics(2001.0 + n, n, {"b": 2 * n, "c": 0.0}) for n in range(MANY)], at=2000.0)
    first = mlobs.metrics(store=store)
    pd.testing.assert_frame_equal(mlobs.metrics(store=store), first)
    newest = mlobs.metrics(store=store, run_ids="latest")
    pd.testing.assert_frame_equal(
        newest, first[first["run_id"] == newest["run_id"][0]].reset_index(drop=True)
    )
