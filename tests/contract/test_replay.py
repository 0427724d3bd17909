"""Any past run reaches any backend, each place once."""

import json
import shutil

import pytest
from typer.testing import CliRunner
from vendor_runs import client_of, histories, runs_of

import mlobs
from mlobs.cli.app import app
from mlobs.moving.exporting import export_runs
from mlobs.moving.replaying import replay_runs


@pytest.fixture
def store(tmp_path):
    tracker = mlobs.Tracker("churn", store=tmp_path / "store")
    with tracker.start_run("parent", params={"lr": 0.1}) as run:
        for step in range(5):
            run.log_metrics({"loss": 1 / (step + 1), "acc": step / 5}, step=step)
        run.log_text("notes", "hello")
        with run.child("fold") as fold:
            fold.log_metric("loss", 0.5)
    other = mlobs.Tracker("other", store=tmp_path / "store")
    with other.start_run("elsewhere") as run:
        run.log_metric("loss", 2.0)
    return tmp_path / "store"


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    path = tmp_path_factory.mktemp("empty") / "empty.db"
    client_of(f"sqlite:///{path}")
    return path


@pytest.fixture
def places(empty, tmp_path):
    """Two MLflows with nothing in them."""
    for name in ("one", "two"):
        shutil.copy(empty, tmp_path / f"{name}.db")
    return [f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two")]


def points_in(uri):
    client = client_of(uri)
    return {name: histories(client, run) for name, run in runs_of(client).items()}


def test_each_place_gets_each_run_once(store, places, tmp_path):
    first = [
        replay_runs(None, mlobs.backends.MLflow(uri, artifact_location=str(tmp_path / "a")), store=store)
        for uri in places
    ]
    again = replay_runs(
        None, mlobs.backends.MLflow(places[1], artifact_location=str(tmp_path / "a")), store=store
    )

    assert all(one.is_settled for done in (*first, again) for one in done)
    names = {done[0].backend for done in first}
    assert len(names) == 2
    assert all(name.startswith("mlflow-") for name in names)
    one, two = map(points_in, places)
    assert set(one) == {("churn", "parent"), ("churn", "fold"), ("other", "elsewhere")}
    assert one == two
    assert len(one["churn", "parent"]["loss"]) == 5


def test_an_experiment_alone_goes_by_the_command(store, places):
    arguments = ["--experiment", "churn", "--to", "mlflow", "--option", f"tracking_uri={places[0]}"]

    done = CliRunner().invoke(
        app,
        ["replay", *arguments, "--option", f"artifact_location={store}/a", "--json", "--store", str(store)],
    )

    assert done.exit_code == 0, done.stderr
    assert [one["is_settled"] for one in json.loads(done.stdout)] == [True, True]
    assert set(points_in(places[0])) == {("churn", "parent"), ("churn", "fold")}
    child, parent = (runs_of(client_of(places[0]))["churn", name] for name in ("fold", "parent"))
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_without_options_the_backend_is_that_of_the_settings(store, tmp_path, monkeypatch):
    (tmp_path / "mlobs.toml").write_text('[backends.tensorboard]\nlogdir = "of-the-file"\n', "utf-8")
    monkeypatch.chdir(tmp_path)

    done = replay_runs("latest", "tensorboard", store=store)

    assert [(one.backend, one.is_settled) for one in done] == [("tensorboard", True)]
    assert list((tmp_path / "of-the-file").rglob("*tfevents*"))


def test_a_name_of_its_own_is_kept(store, tmp_path):
    options = {"logdir": str(tmp_path / "logs"), "name": "second"}

    (done,) = replay_runs("latest", "tensorboard", options=options, store=store)

    assert (done.backend, done.is_settled) == ("second", True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["latest", "--to", "mlfow"], "did you mean 'mlflow'"),
        (["latest", "--to", "tensorboard", "--option", "logdri=x"], "no option 'logdri'"),
        (["latest", "--to", "tensorboard", "--option", "logdir"], "expected KEY=VALUE"),
        (["latest", "--to", "console", "--option", "every_s=soon"], "every_s is 'soon'"),
        (["--to", "tensorboard"], "say which runs"),
        (["nothing", "--to", "tensorboard"], "no run 'nothing'"),
    ],
)
def test_what_cannot_be_done_is_said(store, arguments, words):
    done = CliRunner().invoke(app, ["replay", *arguments, "--store", str(store)])

    assert done.exit_code == 2
    assert words in done.stderr


def test_an_export_for_mlflow_is_a_store_that_mlflow_opens(store, tmp_path):
    (database,) = export_runs(None, tmp_path / "out", format="mlflow", store=store)

    client = client_of(f"sqlite:///{database}")
    runs = runs_of(client)
    assert len(runs) == 3
    run = runs["churn", "parent"]
    assert run.data.metrics == {"loss": 0.2, "acc": 0.8}
    assert [one.path for one in client.list_artifacts(run.info.run_id)] == ["notes.txt"]
    assert run.info.artifact_uri.startswith(str(tmp_path / "out" / "artifacts"))
