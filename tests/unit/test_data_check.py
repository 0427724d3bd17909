"""Before anything is run again: is the recorded data still what it was, where it lies?"""

import os

import pandas as pd
import pytest

import mlobs
from mlobs.repro.data_check import check_data


@pytest.fixture
def tracker(tmp_path):
    return mlobs.Tracker(store=tmp_path / "store", delivery="thread", on_error="raise")


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "data"
    made.mkdir()
    (made / "a.csv").write_text("x\n1\n")
    (made / "b.csv").write_text("x\n2\n")
    return made


def checked(tracker, data, change=lambda: None, **how):
    """Record a dataset, let it change, and check it."""
    with tracker.start_run() as run:
        run.log_dataset("train", data, **how)
    change()
    told = []
    check = check_data(mlobs.load_run(run.id, store=tracker.settings.store).datasets, told.append)
    return check, told


def test_unchanged_files_and_folders_are_confirmed(tracker, folder):
    for data in (folder, folder / "a.csv", str(folder)):
        check, told = checked(tracker, data)
        assert check.confirmed == [f"dataset train is unchanged: {data}"]
        assert told == [f"checking dataset train: {data}"]
        assert not check.changed + check.unchecked


def test_a_changed_file_is_said_to_be(tracker, folder):
    check, _ = checked(tracker, folder / "a.csv", lambda: (folder / "a.csv").write_text("x\n9\n"))
    assert check.changed == ["dataset train: the content changed"]
    assert not check.confirmed


def test_of_a_changed_folder_the_files_are_named(tracker, folder):
    def change():
        (folder / "a.csv").write_text("x\n9\n")
        (folder / "b.csv").unlink()
        (folder / "c.csv").write_text("x\n3\n")

    check, _ = checked(tracker, folder, change)
    assert check.changed == [
        "dataset train: file a.csv changed",
        "dataset train: file c.csv is new",
        "dataset train: file b.csv is gone",
    ]


def test_a_folder_of_thousands_of_files_is_not_said_to_be_new_in_all_of_them(tracker, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(2001):
        (folder / str(number)).touch()
    check, _ = checked(tracker, folder, lambda: (folder / "7").write_text("x"))
    assert check.changed == ["dataset train: the content changed"]


def test_a_file_that_was_only_touched_is_unchanged(tracker, folder):
    check, _ = checked(tracker, folder, lambda: os.utime(folder / "a.csv", (1.0, 1.0)))
    assert check.confirmed


def test_data_that_is_gone_cannot_be_looked_at(tracker, folder):
    check, told = checked(tracker, folder / "a.csv", (folder / "a.csv").unlink)
    assert check.unchecked == [f"dataset train: {folder / 'a.csv'} cannot be looked at from here"]
    assert told == []


def test_data_that_was_in_memory_is_left_to_the_repetition(tracker):
    check, _ = checked(tracker, pd.DataFrame({"x": [1]}))
    assert check.unchecked == ["dataset train was in memory: the repetition's own is compared"]


@pytest.mark.parametrize("uri", ["s3://bucket/train.csv", "azureml:prices:3"])
def test_data_elsewhere_is_not_looked_for(tracker, uri):
    check, told = checked(tracker, uri)
    assert len(check.unchecked) == 1
    assert not check.confirmed + check.changed + told


def test_what_was_recorded_by_size_and_time_confirms_no_content(tracker, folder):
    check, _ = checked(tracker, folder, fingerprint="stat")
    assert check.confirmed == [f"dataset train looks unchanged (stat only): {folder}"]
    check, _ = checked(tracker, folder, lambda: os.utime(folder / "a.csv", (1.0, 1.0)), fingerprint="stat")
    assert not check.confirmed + check.changed
    assert "sizes or times changed" in check.unchecked[0]


def test_a_delta_table_is_checked_in_the_way_it_was_recorded(tracker, tmp_path):
    log = tmp_path / "table" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020}.json").write_text('{"metaData": {"id": "0f1e"}}\n')
    for strength in ("auto", "content"):
        check, _ = checked(tracker, tmp_path / "table", fingerprint=strength)
        assert len(check.confirmed) == 1, check
    check, _ = checked(tracker, tmp_path / "table", lambda: (log / f"{1:020}.json").write_text("{}\n"))
    assert check.changed == ["dataset train: pin:delta:0f1e@0 -> pin:delta:0f1e@1"]


def test_a_folder_that_became_a_file_is_changed_and_one_that_cannot_be_read_is_unchecked(tracker, folder):
    def change():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        folder.write_text("a file")

    check, _ = checked(tracker, folder, change)
    assert len(check.changed) == 1
