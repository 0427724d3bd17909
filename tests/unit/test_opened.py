"""A run opens whatever became of the store, and its record says how it ended."""

import inspect
import shutil

import pytest

import mlobs


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
