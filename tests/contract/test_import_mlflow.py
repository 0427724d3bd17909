"""Runs that MLflow's own client recorded are imported right, once, and reach a second MLflow unchanged."""

import contextlib
import math
import shutil
import sqlite3
import subprocess
import sys
import warnings

import pytest
from mlflow_server import mlflow_server
from vendor_runs import BIG, POINTS, artifacts_of, client_of, histories, record_vendor_runs, runs_of

import mlobs
from mlobs.moving.importing import import_runs
from mlobs.moving.replaying import replay_runs
from mlobs.sender.repair import repair


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vendor")
    client_of(f"sqlite:///{folder}/vendor.db")
    shutil.copy(folder / "vendor.db", folder / "empty.db")
    record_vendor_runs(f"sqlite:///{folder}/vendor.db", folder)
    return folder / "vendor.db"


@pytest.fixture
def vendor(recorded, tmp_path):
    """A database of the test's own: MLflow takes seconds to make one."""
    shutil.copy(recorded, tmp_path / "vendor.db")
    uri = f"sqlite:///{tmp_path}/vendor.db"
    return uri, client_of(uri)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def second(recorded, tmp_path):
    """Another MLflow, with nothing in it."""
    shutil.copy(recorded.with_name("empty.db"), tmp_path / "second.db")
    return f"sqlite:///{tmp_path}/second.db"


def by_name(store):
    return {run.name: mlobs.load_run(run.run_id, store=store) for run in mlobs.runs(store=store).itertuples()}


def by_outcome(done):
    return {one.name: one.outcome for one in done}


def test_everything_that_a_run_of_mlflow_has_is_in_the_store(vendor, store):
    done = import_runs("mlflow", vendor[0], store=store)

    assert by_outcome(done) == dict.fromkeys(("parent", "child", "killed", "running"), "new")
    run = by_name(store)["parent"]
    assert (run.experiment, run.status) == ("churn", "FINISHED")
    assert (run.started.timestamp(), run.ended.timestamp()) == (1_700_000_000, 1_700_000_009)
    assert run.params == {"lr": "0.1", "w_x10_name": "kept as it is"}
    assert run.tags.items() >= {
        ("team", "x"),
        ("mlflow.note.content", "Grüße, 世界"),
        ("mlflow.user", "ann"),
    }
    recorded = sorted(
        (row.key, str(row.value), round(row.at.timestamp() * 1000), row.step)
        for row in run.metrics.itertuples()
    )
    assert recorded == sorted((name, str(value), at, step) for name, value, at, step in POINTS)
    contents = {one.path: one.read_bytes() for one in run.artifacts}
    assert contents == {
        "notes/a.txt": b"hello",
        "deep/big.bin": BIG,
        "model@step3.txt": b"a step that is only in a name",
    }
    (dataset,) = run.datasets
    assert (dataset.name, dataset.fingerprint, dataset.context) == ("train", "2981c147", "training")
    assert (dataset.source, dataset.rows, dataset.strength) == ("http://x/y.csv", 7, "stat")


def test_statuses_and_parents_are_those_of_mlflow_and_nobody_is_taken_for_a_dead_process(vendor, store):
    import_runs("mlflow", vendor[0], store=store)

    runs = by_name(store)
    assert {name: run.status for name, run in runs.items()} == {
        "parent": "FINISHED",
        "child": "FAILED",
        "killed": "KILLED",
        "running": "RUNNING",
    }
    assert runs["child"].parent_run_id == runs["parent"].run_id
    assert "imported" in runs["running"].reason


def test_an_import_again_adds_nothing(vendor, store):
    first = import_runs("mlflow", vendor[0], store=store)
    files = sorted(path for path in store.rglob("*") if path.is_file())

    again = import_runs("mlflow", vendor[0], store=store)

    assert [one.run_id for one in again] == [one.run_id for one in first]
    assert {one.outcome for one in again} == {"unchanged"}
    assert sorted(path for path in store.rglob("*") if path.is_file()) == files


def test_what_a_run_has_more_by_now_is_added_alone(vendor, store):
    uri, client = vendor
    import_runs("mlflow", uri, store=store)
    running = runs_of(client)["other", "running"].info.run_id
    client.log_metric(running, "loss", 0.5, 1_700_000_201_000, 1)
    client.log_param(running, "late", "yes")
    client.log_text(running, "late", "late.txt")
    client.set_terminated(running, "FINISHED", 1_700_000_202_000)

    done = import_runs("mlflow", uri, store=store)

    assert by_outcome(done)["running"] == "grown"
    assert sum(one.points for one in done) == 1
    run = by_name(store)["running"]
    assert (run.status, run.params) == ("FINISHED", {"late": "yes"})
    assert list(run.metrics["value"]) == [1.0, 0.5]
    assert [one.path for one in run.artifacts] == ["late.txt"]
    assert {one.outcome for one in import_runs("mlflow", uri, store=store)} == {"unchanged"}


def test_a_run_that_was_gone_on_with_after_its_end_is_another_attempt(vendor, store):
    uri, client = vendor
    import_runs("mlflow", uri, store=store)
    child = runs_of(client)["churn", "child"].info.run_id
    client.update_run(child, "RUNNING")
    import_runs("mlflow", uri, store=store)
    between = by_name(store)["child"].status
    client.set_terminated(child, "FINISHED", 1_700_000_008_000)

    import_runs("mlflow", uri, store=store)

    run = by_name(store)["child"]
    assert (between, run.status, run.ended.timestamp()) == ("RUNNING", "FINISHED", 1_700_000_008)
    assert len(run.metrics) == 1
    assert {one.outcome for one in import_runs("mlflow", uri, store=store)} == {"unchanged"}


def test_an_end_that_repair_gave_stands_until_mlflow_knows_the_real_one(vendor, store):
    uri, client = vendor
    import_runs("mlflow", uri, experiment="other", store=store)
    running = by_name(store)["running"]
    repaired = repair(running.folder, is_named=True)
    again = by_outcome(import_runs("mlflow", uri, experiment="other", store=store))
    between = by_name(store)["running"].status
    client.set_terminated(runs_of(client)["other", "running"].info.run_id, "FINISHED", 1_700_000_300_000)

    import_runs("mlflow", uri, experiment="other", store=store)

    assert (running.status, running.is_stale, repaired.is_ended) == ("RUNNING", True, True)
    assert (again["running"], between) == ("unchanged", "CRASHED")
    assert by_name(store)["running"].status == "FINISHED"


def test_only_the_named_experiments_are_imported(vendor, store):
    done = import_runs("mlflow", vendor[0], experiment=["churn"], store=store)

    assert by_outcome(done) == {"parent": "new", "child": "new"}
    with pytest.raises(mlobs.UsageError, match=r"no experiment 'chrun'.*there are Default, churn, other"):
        import_runs("mlflow", vendor[0], experiment="chrun", store=store)


def test_a_run_that_mlobs_recorded_and_that_is_here_is_skipped(second, tmp_path, store):
    backend = mlobs.backends.MLflow(second, artifact_location=str(tmp_path / "a"))
    tracker = mlobs.Tracker("churn", backends=[backend], store=store, delivery="thread")
    with tracker.start_run("own") as run:
        run.log_metric("loss", 1.0)

    (done,) = import_runs("mlflow", backend.tracking_uri, store=store)

    assert (done.run_id, done.outcome) == (run.id, "skipped")
    assert len(mlobs.runs(store=store)) == 1


def test_a_run_that_mlobs_recorded_elsewhere_comes_under_its_own_id(second, tmp_path, store):
    backend = mlobs.backends.MLflow(second, artifact_location=str(tmp_path / "a"))
    tracker = mlobs.Tracker("churn", backends=[backend], store=tmp_path / "elsewhere", delivery="thread")
    with tracker.start_run("own", params={"lr": 0.1}) as run:
        run.log_metrics({"loss:a": math.inf, "b": 2.0}, step=3)

    outcomes = [import_runs("mlflow", backend.tracking_uri, store=store)[0].outcome for _ in range(2)]

    record = mlobs.load_run(run.id, store=store)
    assert outcomes == ["new", "unchanged"]
    assert (record.name, record.status) == ("own", "FINISHED")
    assert record.last_metrics == {"loss:a": math.inf, "b": 2.0}


def check_second_mlflow(client, second_uri, store, tmp_path):
    """Replay the store to a second MLflow, and compare all that both hold, as MLflow's client reads it."""
    backend = mlobs.backends.MLflow(second_uri, artifact_location=str(tmp_path / "second"))
    done = replay_runs(None, backend, store=store)

    assert all(one.is_settled and not one.report.rejected for one in done)
    second = client_of(second_uri)
    theirs, ours = runs_of(client), runs_of(second)
    assert set(ours) == set(theirs)
    for key, run in theirs.items():
        other = ours[key]
        assert histories(second, other) == histories(client, run)
        assert other.data.params.get("lr") == run.data.params.get("lr")
        assert (other.info.start_time, other.info.end_time) == (run.info.start_time, run.info.end_time)
        assert other.info.status == run.info.status
        kept = {name: text for name, text in run.data.tags.items() if name != "mlflow.parentRunId"}
        assert other.data.tags.items() >= kept.items()
        contents = artifacts_of(client, run, tmp_path)
        held = artifacts_of(second, other, tmp_path)
        assert sorted(held.values()) == sorted(contents.values())
        digests = [(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs]
        assert [(one.dataset.name, one.dataset.digest) for one in other.inputs.dataset_inputs] == digests
    child, parent = ours["churn", "child"], ours["churn", "parent"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_from_one_database_to_another_each_value_is_equal(vendor, second, store, tmp_path):
    uri, client = vendor
    import_runs("mlflow", uri, store=store)

    check_second_mlflow(client, second, store, tmp_path)


def test_the_retired_file_store_is_imported_by_its_path(second, store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow says that it has retired it
        client = record_vendor_runs((tmp_path / "mlruns").as_uri(), tmp_path)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")

    done = import_runs("mlflow", str(tmp_path / "mlruns"), store=store)

    assert {one.outcome for one in done} == {"new"}
    check_second_mlflow(client, second, store, tmp_path)


@pytest.mark.slow
def test_from_a_server_to_another_each_value_is_equal(store, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with mlflow_server(tmp_path / "one") as one, mlflow_server(tmp_path / "two") as two:
        client = record_vendor_runs(one, tmp_path)
        import_runs("mlflow", one, store=store)

        backend = mlobs.backends.MLflow(two)
        assert all(run.is_settled for run in replay_runs(None, backend, store=store))
        second = client_of(two)
        theirs, ours = runs_of(client), runs_of(second)
        assert set(ours) == set(theirs)
        for key, run in theirs.items():
            assert histories(second, ours[key]) == histories(client, run)
            held, contents = (
                artifacts_of(second, ours[key], tmp_path),
                artifacts_of(client, run, tmp_path),
            )
            assert sorted(held.values()) == sorted(contents.values())


def test_a_model_that_mlflow_keeps_beside_the_run_comes_along(vendor, store, tmp_path):
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    uri, client = vendor
    run = runs_of(client)["other", "killed"].info
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}")
    model = client.create_logged_model(run.experiment_id, "net", run.run_id)
    client.log_model_artifacts(model.model_id, str(tmp_path / "model"))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, 5)])

    import_runs("mlflow", uri, store=store)

    (artifact,) = by_name(store)["killed"].artifacts
    assert (artifact.path, artifact.role, artifact.step) == ("net/MLmodel", "model", 5)
    assert artifact.text() == "flavors: {}"


@pytest.mark.parametrize("given", ["nowhere", "nowhere.db", "sqlite:///nowhere.db", "file:///nowhere"])
def test_a_place_without_mlflow_is_said_and_nothing_is_made(given, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(mlobs.UsageError, match="there is no MLflow"):
        import_runs("mlflow", given, store=store)

    assert not list(tmp_path.iterdir())


def test_a_run_that_cannot_be_read_is_named_and_made_whole_by_the_next_import(vendor, store):
    uri, client = vendor
    where = runs_of(client)["churn", "parent"].info.artifact_uri
    set_artifact_uri(uri, "parent", "nonsense://x")
    before = by_outcome(import_runs("mlflow", uri, store=store))
    set_artifact_uri(uri, "parent", where)

    after = by_outcome(import_runs("mlflow", uri, store=store))

    assert (before["parent"], before["child"], after["parent"]) == ("failed", "new", "grown")
    run = by_name(store)["parent"]
    assert (run.status, len(run.metrics), len(run.artifacts)) == ("FINISHED", len(POINTS), 3)


def set_artifact_uri(uri, name, artifact_uri):
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database, database:
        database.execute("UPDATE runs SET artifact_uri = ? WHERE name = ?", (artifact_uri, name))


QUICKSTART = """
import mlflow, warnings
warnings.simplefilter("ignore")
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("quickstart")
mlflow.sklearn.autolog()
X, y = load_iris(return_X_y=True)
GridSearchCV(LogisticRegression(max_iter=50), {"C": [0.1, 1.0]}, cv=2).fit(X, y)
"""


@pytest.mark.slow
def test_what_autologging_of_mlflow_records_is_imported_with_child_runs_models_and_datasets(
    second, store, tmp_path
):
    subprocess.run([sys.executable, "-c", QUICKSTART], cwd=tmp_path, check=True, timeout=300)
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    done = import_runs("mlflow", uri, store=store)
    again = import_runs("mlflow", uri, store=store)

    assert {one.outcome for one in done} == {"new"}
    assert {one.outcome for one in again} == {"unchanged"}
    client = client_of(uri)
    theirs = runs_of(client)
    records = by_name(store)
    assert set(records) == {name for _, name in theirs}
    (parent,) = [run for run in records.values() if run.parent_run_id is None]
    assert {run.parent_run_id for run in records.values() if run is not parent} == {parent.run_id}
    assert parent.params["best_C"] == theirs["quickstart", parent.name].data.params["best_C"]
    assert "best_estimator/MLmodel" in {one.path for one in parent.artifacts}
    assert [one.context for one in parent.datasets] == ["train"]
    backend = mlobs.backends.MLflow(second, artifact_location=str(tmp_path / "second"))
    assert all(one.is_settled for one in replay_runs(None, backend, store=store))
    other = client_of(second)
    ours = runs_of(other)
    for key, run in theirs.items():
        assert histories(other, ours[key]) == histories(client, run)
        assert ours[key].data.params == run.data.params
