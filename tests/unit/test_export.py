"""What is exported holds every value, and opens with the tools of others."""

import base64
import json
import math

import pandas as pd
import pytest
from typer.testing import CliRunner

import mlobs
from mlobs.cli.app import app
from mlobs.moving.exporting import export_runs

VALUES = [0.1 + 0.2, math.nan, math.inf, -math.inf, 5e-324]


@pytest.fixture
def store(tmp_path):
    tracker = mlobs.Tracker("churn", store=tmp_path / "store")
    with tracker.start_run("one", params={"lr": 0.1, "layers": [1, 2]}, tags={"team": "x"}) as run:
        for step, value in enumerate(VALUES):
            run.log_metric("val/acc", value, step=step)
        run.log_text("notes", "Grüße")
        run.log_histogram("weights", counts=[1, 2], edges=[0, 1, 2], step=3)
    with tracker.start_run("two", params={"lr": "high", "only": 1}) as run:
        run.log_metric("loss", 1.0)
    return tmp_path / "store"


@pytest.fixture
def one(store):
    frame = mlobs.runs(store=store)
    return frame.loc[frame["name"] == "one", "run_id"].item()


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_tables_hold_every_point_and_run(store, tmp_path, form):
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet}[form]

    paths = export_runs(None, tmp_path / "out", format=form, store=store)

    points, runs = map(read, paths)
    recorded = mlobs.metrics(store=store)
    assert [str(value) for value in points["value"]] == [str(value) for value in recorded["value"]]
    assert list(pd.to_datetime(points["at"], utc=True, format="ISO8601")) == list(recorded["at"])
    assert list(points["step"]) == list(recorded["step"])
    assert list(runs["name"]) == ["one", "two"]
    assert list(runs["params.lr"].astype(str)) == ["0.1", "high"]


def test_only_the_chosen_runs_and_what_they_have_is_written(store, one, tmp_path):
    paths = export_runs(one, tmp_path / "out", format="csv", store=store)

    points, runs = map(pd.read_csv, paths)
    assert set(points["run_id"]) == set(runs["run_id"]) == {one}
    assert "params.only" not in runs.columns


def test_a_run_that_is_named_twice_is_written_once(store, one, tmp_path):
    paths = export_runs([one, one[:-1], one], tmp_path / "out", format="csv", store=store)
    (path,) = export_runs([one, one], tmp_path / "out.json", format="json", store=store)

    points, runs = map(pd.read_csv, paths)
    assert (len(points), len(runs)) == (len(VALUES), 1)
    assert [run["run_id"] for run in json.loads(path.read_text())["runs"]] == [one]
    assert len(mlobs.metrics(store=store, run_ids=[one, one])) == len(VALUES)


def test_json_is_one_document_with_everything(store, one, tmp_path):
    (path,) = export_runs(one, tmp_path / "one.json", format="json", store=store)

    (run,) = json.loads(path.read_text("utf-8"))["runs"]
    assert (run["run_id"], run["status"], run["params"]) == (one, "FINISHED", {"lr": 0.1, "layers": [1, 2]})
    assert run["tags"]["team"] == "x"
    metric = run["metrics"]["val/acc"]
    assert metric["value"] == [0.1 + 0.2, "NaN", "Infinity", "-Infinity", 5e-324]
    assert metric["step"] == [0, 1, 2, 3, 4]
    assert metric["at"] == sorted(metric["at"])
    (artifact,) = run["artifacts"]
    assert base64.b64decode(artifact["content_base64"]).decode() == "Grüße"
    assert run["histograms"][0]["counts"] == [1, 2]


def test_a_format_or_run_that_is_not_known_is_said(store, tmp_path):
    with pytest.raises(mlobs.UsageError, match="expected one of parquet, csv, json, mlflow"):
        export_runs(None, tmp_path / "out", format="xlsx", store=store)
    with pytest.raises(mlobs.UsageError, match="no runs of experiment 'chrun'"):
        export_runs(None, tmp_path / "out", experiment="chrun", store=store)


@pytest.mark.parametrize(("form", "wanted"), [("csv", "folder"), ("mlflow", "folder"), ("json", "file")])
def test_a_place_that_cannot_be_written_to_asks_for_another_place_not_another_store(
    store, tmp_path, form, wanted
):
    place = tmp_path / "taken"
    place.mkdir() if form == "json" else place.write_text("mine")

    with pytest.raises(mlobs.StoreError, match=f"name another {wanted}"):
        export_runs(None, place, format=form, store=store)

    assert place.is_dir() or place.read_text() == "mine"


def test_the_command_names_what_it_wrote(store, one, tmp_path):
    arguments = [one[:20], "--format", "json", "-o", str(tmp_path / "one.json"), "--store", str(store)]

    done = CliRunner().invoke(app, ["export", *arguments])

    assert (done.exit_code, done.stdout.strip()) == (0, str(tmp_path / "one.json"))


@pytest.mark.parametrize("arguments", [[], ["--all", "--experiment", "churn"], ["latest", "--all"]])
def test_the_command_wants_to_know_which_runs(store, tmp_path, arguments):
    done = CliRunner().invoke(app, ["export", *arguments, "-o", str(tmp_path / "out"), "--store", str(store)])

    assert done.exit_code == 2
    assert "say which runs" in done.stderr
