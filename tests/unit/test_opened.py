"""A run opens whatever became of the store, and its record says how it ended."""

import inspect
import os
import shutil
import time

import pytest

import mlobs
from mlobs.journal import files


@pytest.fixture
def ruined(tmp_path):
    """A function that makes a tracker whose store is a regular file by the time it starts a run."""

    def make(**options):
        tracker = mlobs.Tracker("e", store=tmp_path / "store", **options)
        shutil.rmtree(tmp_path / "store")
        (tmp_path / "store").write_text("not a folder any more")
        return tracker

    return make


def test_a_store_that_has_become_unwritable_costs_the_record_not_the_training(ruined, caplog):
    with ruined().start_run("lost", params={"lr": 0.1}) as run:
        run.log_metric("loss", 0.3)
        run.log_text("notes", "kept nowhere")
        with run.child("fold") as child:
            child.log_metric("loss", 0.2)

    assert (run.status, child.status) == ("FINISHED", "FINISHED")
    assert "nothing of run lost will be recorded" in caplog.text


def test_with_on_error_raise_it_is_an_exception(ruined):
    with pytest.raises(mlobs.StoreError, match="cannot be written"):
        ruined(on_error="raise").start_run("lost")


@pytest.mark.parametrize(("code", "recorded"), [(None, 0), (0, 0), (3, 3), ("no data", 1)])
def test_the_exit_code_is_recorded(tmp_path, code, recorded):
    tracker = mlobs.Tracker("e", store=tmp_path / "store")
    with pytest.raises(SystemExit), tracker.start_run():
        raise SystemExit(code)

    assert mlobs.load_run("latest", store=tmp_path / "store").end.exit_code == recorded


def test_module_level_calls_show_the_signature_that_they_have():
    assert str(inspect.signature(mlobs.log_metric)).startswith("(key: 'str', value: 'SupportsFloat', step:")


def test_a_run_that_could_not_begin_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    tracker = mlobs.Tracker("e", store=tmp_path / "store")
    with tracker.start_run("good"):
        pass
    real = os.posix_fallocate
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: real(-1, 0, 1))  # EBADF: it cannot be reserved
    monkeypatch.setattr(files, "can_map", lambda _: True)
    with tracker.start_run("bad"):
        pass
    monkeypatch.undo()

    assert mlobs.load_run("latest", store=tmp_path / "store").name == "good"
    assert len(list((tmp_path / "store" / "runs").iterdir())) == 1


def test_a_deleted_store_is_said_and_not_waited_for(tmp_path, caplog):
    tracker = mlobs.Tracker("e", store=tmp_path / "store", backends=["tensorboard"], finish_timeout_s=30)
    run = tracker.start_run("lost")
    shutil.rmtree(tmp_path / "store")
    began = time.monotonic()
    run.finish()

    assert time.monotonic() - began < 10
    assert "if it was deleted, it is lost" in caplog.text
    assert not run.delivery()["tensorboard"].is_settled


def test_a_disabled_run_reports_on_its_backends_too(tmp_path):
    tracker = mlobs.Tracker("e", store=tmp_path / "store", backends=["tensorboard"], mode="disabled")
    with tracker.start_run() as run:
        assert run.delivery()["tensorboard"].delivered == 0


def test_mlobs_own_tags_cannot_be_set(tmp_path, caplog):
    with mlobs.Tracker("e", store=tmp_path / "store").start_run() as run:
        run.set_tag("mlobs.run_id", "another")
        run.set_tags({"mlobs.status": "FINE", "team": "x"})

    assert "is mlobs' own" in caplog.text
    assert mlobs.load_run(run.id, store=tmp_path / "store").tags == {"team": "x"}
