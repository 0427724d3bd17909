"""Both forms of CSV files become runs, and a file that has grown adds what is new."""

import json
import math

import pytest
from typer.testing import CliRunner

import mlobs
from mlobs.cli.app import app
from mlobs.moving.importing import import_runs, importing


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def write(tmp_path):
    def written(*lines, name="results.csv"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)

    return written


def runs_by_name(store):
    return {run.name: mlobs.load_run(run.run_id, store=store) for run in mlobs.runs(store=store).itertuples()}


def points_of(run):
    return [
        (row.key, row.step, str(row.value), row.at.timestamp()) for row in run.metrics.itertuples(index=False)
    ]


def test_the_long_form_has_a_row_for_each_point(write, store):
    file = write(
        "run,key,step,value,at",
        "a,loss,0,0.5,1700000000.25",
        "a,loss,1,NaN,1700000001",
        "a,acc,1,inf,2023-11-14T22:13:22Z",
        "b,loss,-3,1e-300,2023-11-14 22:13:23",
    )

    import_runs("csv", file, store=store)

    runs = runs_by_name(store)
    assert points_of(runs["a"]) == [
        ("loss", 0, "0.5", 1_700_000_000.25),
        ("loss", 1, "nan", 1_700_000_001),
        ("acc", 1, "inf", 1_700_000_002),
    ]
    assert points_of(runs["b"]) == [("loss", -3, "1e-300", 1_700_000_003)]
    assert {run.experiment for run in runs.values()} == {"results"}
    assert {run.status for run in runs.values()} == {"FINISHED"}


def test_the_wide_form_has_a_column_for_each_metric(write, store):
    file = write(
        "epoch,step,train_loss,val_loss,params.lr,tags.team,comment",
        "0,0,0.5,,0.1,x,first",
        "0,1,0.25,0.75,0.1,x,",
    )

    (done,) = import_runs("csv", file, experiment="lightning", store=store)

    run = mlobs.load_run("latest", store=store)
    assert [point[:3] for point in points_of(run)] == [
        ("epoch", 0, "0.0"),
        ("train_loss", 0, "0.5"),
        ("epoch", 1, "0.0"),
        ("train_loss", 1, "0.25"),
        ("val_loss", 1, "0.75"),
    ]
    assert (run.experiment, run.name, run.params, run.tags["team"]) == (
        "lightning",
        "results",
        {"lr": "0.1"},
        "x",
    )
    assert done.left_out == {"values of 'comment' that are no numbers": 1}


def test_what_the_page_of_tensorboard_lets_people_download_is_one_metric(write, store):
    file = write("Wall time,Step,Value", "1700000000.5,0,1.25", "1700000001.5,7,0.5", name="loss.csv")

    import_runs("csv", file, store=store)

    assert points_of(mlobs.load_run("latest", store=store)) == [
        ("loss", 0, "1.25", 1_700_000_000.5),
        ("loss", 7, "0.5", 1_700_000_001.5),
    ]


def test_rows_without_a_step_are_counted(write, store):
    import_runs("csv", write("loss", "0.5", "0.25"), store=store)

    assert list(mlobs.load_run("latest", store=store).metrics["step"]) == [0, 1]


@pytest.mark.parametrize("header", ["step,loss,at", "step,loss"])
def test_a_file_that_has_grown_adds_what_is_new(write, store, header):
    rows = [f"{step},{1 / (step + 1)},{1_700_000_000 + step}" for step in range(4)]
    if "at" not in header:
        rows = [row.rpartition(",")[0] for row in rows]
    (first,) = import_runs("csv", write(header, *rows[:2]), store=store)

    (second,) = import_runs("csv", write(header, *rows), store=store)
    (third,) = import_runs("csv", write(header, *rows), store=store)

    assert (second.outcome, second.points) == ("grown", 2)
    assert (first.run_id, second.run_id) == (second.run_id, third.run_id)
    assert third.points == 0
    run = mlobs.load_run("latest", store=store)
    assert list(run.metrics["value"]) == [1 / (step + 1) for step in range(4)]
    assert run.status == "FINISHED"


def test_what_mlobs_exports_as_csv_comes_back_with_each_value(store, tmp_path):
    from mlobs.moving.exporting import export_runs

    tracker = mlobs.Tracker("churn", store=tmp_path / "first")
    with tracker.start_run("one") as run:
        for step, value in enumerate((0.1 + 0.2, math.nan, math.inf, -0.0, 5e-324)):
            run.log_metric("val/acc", value, step=step)
    points, _ = export_runs(run.id, tmp_path / "out", format="csv", store=tmp_path / "first")

    import_runs("csv", str(points), store=store)

    before = points_of(mlobs.load_run(run.id, store=tmp_path / "first"))
    assert points_of(mlobs.load_run("latest", store=store)) == before


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["step,loss", "x,1"], r"line 2: .*'x'"),
        (["step,loss", "1.5,1"], "whole number"),
        (["step,loss,at", "1,1,yesterday"], r"line 2: .*yesterday"),
        (["step,at", "1,1"], "no column with values"),
        (["step,loss"], "no row behind"),
        (["step;loss", "0;0,5"], "by ';'; expected commas"),
        (["step\tloss", "0\t0.5"], "expected commas"),
        ([""], "is empty"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line_and_nothing_is_made(write, store, lines, words):
    with pytest.raises(mlobs.UsageError, match=words):
        import_runs("csv", write(*lines), store=store)

    assert not store.exists()


def test_a_kind_that_is_not_known_is_said(store):
    with pytest.raises(mlobs.UsageError, match="expected one of mlflow, tensorboard, wandb, csv"):
        import_runs("excel", "a.xlsx", store=store)


def test_two_imports_into_one_store_do_not_both_make_a_run(write, store):
    file = write("run,step,loss", "a,0,0.5", "b,0,0.25")
    first = importing("csv", file, store=store)
    next(first)

    with pytest.raises(mlobs.UsageError, match="another import"):
        import_runs("csv", file, store=store)
    first.close()

    assert [one.outcome for one in import_runs("csv", file, store=store)] == ["unchanged", "new"]


def test_the_command_says_what_became_of_each_run(write, store):
    arguments = ["import", "csv", write("run,step,loss", "a,0,0.5", "b,0,0.25"), "--store", str(store)]

    shown = CliRunner().invoke(app, arguments)
    again = CliRunner().invoke(app, [*arguments, "--json"])

    assert (shown.exit_code, shown.stderr.strip()) == (0, "2 new")
    assert [line.split()[1:4] for line in shown.stdout.splitlines()[1:]] == [
        ["a", "new", "1"],
        ["b", "new", "1"],
    ]
    assert [one["outcome"] for one in json.loads(again.stdout)] == ["unchanged", "unchanged"]


def test_a_run_that_was_not_imported_in_full_is_named_and_the_command_fails(write, store):
    file = write("run,step,loss", "a,0,0.5", "b,0,0.25")
    import_runs("csv", file, store=store)
    broken = next(path for path in store.glob("runs/*/*.journal") if b"\xa1a" in path.read_bytes())
    broken.unlink()
    broken.mkdir()

    done = CliRunner().invoke(app, ["import", "csv", file, "--store", str(store), "--json"])

    assert done.exit_code == 1
    outcomes = sorted(one["outcome"] for one in json.loads(done.stdout))
    assert outcomes == ["failed", "unchanged"]


@pytest.mark.parametrize("at", ["1700000000000", "1700000000000000000", "nan", "inf", "yesterday"])
def test_a_time_that_is_none_is_refused_with_its_line(write, store, at):
    with pytest.raises(mlobs.UsageError, match="line 3: "):
        import_runs("csv", write("step,loss,at", "0,1.0,1700000000", f"1,1.0,{at}"), store=store)
    assert not store.exists()
