"""What the commands promise that list, compare, plot and watch."""

import csv
import inspect
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest
from recorded import open_run, record_run
from typer.testing import CliRunner

from mlobs.cli.app import app
from mlobs.cli.compare import excerpt
from mlobs.cli.plot import tick_names, ticks
from mlobs.events import Metrics, Params, RunFinished
from mlobs.journal.store import Store
from mlobs.read.live import LiveRuns
from mlobs.read.log_tail import LogTail

MLOBS = [sys.executable, "-m", "mlobs"]
_APART = (
    {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
)  # before click 8.2
RUNNER = CliRunner(**_APART)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Store(tmp_path / ".mlobs")
    for number in range(3):
        at = 1000.0 + 100 * number
        losses = [Metrics(at + 1 + step, step, {"loss": number + abs(step - 3)}) for step in range(6)]
        record_run(made, Params(at, {"lr": 0.1 * number, "depth": 3}), *losses, at=at, name=f"run-{number}")
    return made


@pytest.fixture
def ids(store):
    return [one.run_id for one in store.runs()]


def mlobs(*arguments, code=0):
    result = RUNNER.invoke(app, list(arguments))
    assert result.exit_code == code, (result.output, result.exception)
    return result


def table(*arguments):
    return list(csv.reader(io.StringIO(mlobs(*arguments, "--csv").stdout)))


@pytest.mark.usefixtures("store")
def test_runs_takes_conditions_and_moments():
    assert [row[2] for row in table("runs", "--where", "params.lr > 0.05")[1:]] == ["run-2", "run-1"]
    assert [row[2] for row in table("runs", "--since", "1970-01-01T00:20:00")[1:]] == ["run-2"]
    assert len(table("runs", "--since", "7d")) == 1
    assert "at character 1 " in mlobs("runs", "--where", "f()", code=2).stderr
    assert "expected ISO 8601" in mlobs("runs", "--since", "soon", code=2).stderr


@pytest.mark.usefixtures("store")
def test_a_slip_in_a_condition_is_said_where_it_chooses_nothing():
    slip = ("--where", "params.lrr < 1")
    assert "none has params.lrr; did you mean 'lr'?" in mlobs("runs", *slip).stderr
    assert "none has params.lrr; did you mean 'lr'?" in mlobs("best", "loss", *slip, code=2).stderr
    assert "none has params.lrr; did you mean 'lr'?" in mlobs("plot", "loss", *slip, code=2).stderr
    assert "none has" not in mlobs("runs", "--where", "params.lr > 9").stderr


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("forms", [("--json", "--csv"), ("--csv", "--json")])
def test_two_forms_at_once_are_refused(forms):
    assert "exclude each other" in mlobs("runs", *forms, code=2).stderr


def test_best_says_so_where_every_value_is_nan(store):
    record_run(store, Metrics(9001.0, 0, {"bad": float("nan")}), at=9000.0)
    said = mlobs("best", "bad")
    assert (said.stdout, said.stderr) == ("", "every value of 'bad' is NaN, and NaN is never best\n")
    assert json.loads(mlobs("best", "bad", "--json").stdout) == []


def test_an_empty_store_is_called_empty(tmp_path):
    assert f"there are no runs in {tmp_path} yet" in mlobs("runs", "--store", str(tmp_path)).stderr


def test_compare_asks_for_a_second_run(ids):
    assert f"type: mlobs compare {ids[0]} RUN" in mlobs("compare", ids[0], code=2).stderr


def test_a_traceback_brings_no_escapes_to_the_terminal(store):
    end = RunFinished(9002.0, "FAILED", "x", traceback="Traceback\n  ValueError: \x1b[31mred")
    _, writer = open_run(store, end, at=9000.0)
    writer.close()
    assert "  ValueError: \\x1b[31mred" in mlobs("show", "latest").stdout.splitlines()


def test_runs_as_csv_has_every_column_and_exact_values(ids):
    rows = table("runs")
    assert rows[0][:4] == ["run_id", "experiment", "name", "status"]
    assert rows[0][8:] == ["metrics.loss", "params.lr", "params.depth"]
    assert rows[1][0] == ids[2]
    assert rows[1][4] == "1970-01-01T00:20:00+00:00"
    assert rows[1][8:] == ["4.0", "0.2", "3"]


@pytest.mark.usefixtures("store")
def test_columns_can_be_chosen_also_another_value_of_a_metric():
    keys = "name,params.lr,metrics.loss.min,loss.mean,duration_s"
    assert table("runs", "--columns", keys, "--limit", "1") == [
        keys.split(","),
        ["run-2", "0.2", "2.0", "3.5", "60.0"],
    ]
    assert mlobs("runs", "--columns", "name,loss.max").stdout.splitlines()[1].split() == ["run-2", "5"]
    assert json.loads(mlobs("runs", "--columns", "name,loss", "--json").stdout)[2] == {
        "name": "run-0",
        "loss": 2.0,
    }
    assert "--columns takes run_id" in mlobs("runs", "--columns", "nme", code=2).stderr


def test_a_slip_in_an_id_is_answered_with_the_run_that_was_meant(ids):
    assert f"did you mean {ids[1]}?" in mlobs("show", ids[1][:-1] + "_", code=2).stderr
    assert "did you mean" not in mlobs("show", "nonsense", code=2).stderr


def test_compare_shows_the_rows_that_differ(ids):
    out = mlobs("compare", *ids[:2]).stdout
    assert re.search(r"^lr +0\.0 +0\.1$", out, re.MULTILINE)
    assert "depth" not in out
    marked = mlobs("compare", *ids, "--all").stdout
    assert re.search(r"^lr \* +0\.0 +0\.1 +0\.2$", marked, re.MULTILINE)
    assert re.search(r"^depth +3 +3 +3$", marked, re.MULTILINE)


def test_a_generated_file_does_not_hide_the_edit_of_another():
    generated = ["--- a/report.html", "+++ b/report.html", *["+x"] * 1000]
    edited = ["--- a/train.py", "+++ b/train.py", "@@ -1 +1 @@", "-lr = 1", "+lr = 2"]

    shown = excerpt([*generated, *edited])

    assert shown[-5:] == edited
    assert shown[60] == "... 942 more lines: mlobs diff shows two runs in full"
    assert len(shown) == 66
    assert excerpt(edited) == edited


def test_compare_gives_data(ids):
    assert table("compare", *ids[:2]) == [
        ["group", "name", "differs", *ids[:2]],
        ["params", "lr", "True", "0.0", "0.1"],
        ["metrics", "loss", "True", "2.0", "3.0"],
    ]
    found = json.loads(mlobs("compare", *ids[:2], "--json").stdout)
    assert found["params"]["lr"] == {"differs": True, "values": {ids[0]: 0.0, ids[1]: 0.1}}
    assert found["params"]["depth"]["differs"] is False
    assert found["runs"][ids[0]]["duration_s"] == 60.0
    assert "expected two or more runs" in mlobs("compare", ids[0], code=2).stderr


def test_best_puts_the_best_run_first_with_the_step(ids):
    rows = table("best", "loss")
    assert rows[0][-2:] == ["loss", "step"]
    assert [row[0] for row in rows[1:]] == ids
    assert rows[1][-2:] == ["0.0", "3"]
    assert [row[0] for row in table("best", "loss", "--mode", "max", "--limit", "1")[1:]] == [ids[2]]
    assert json.loads(mlobs("best", "loss", "--where", "params.lr > 0.05", "--json").stdout)[0]["best"] == 1.0
    heading, first, *_ = mlobs("best", "loss").stdout.splitlines()
    assert heading.split() == [
        "run",
        "id",
        "experiment",
        "name",
        "status",
        "started",
        "(UTC)",
        "loss",
        "(min)",
        "step",
        "lr",
    ]
    assert first.startswith(ids[0])


def test_best_takes_more_as_better_unless_the_name_tells_of_a_loss(store):
    record_run(store, Metrics(5001.0, 0, {"acc": 0.5, "rmse": 1.0}), at=5000.0)
    assert "acc (max)" in mlobs("best", "acc").stdout
    assert "rmse (min)" in mlobs("best", "rmse").stdout
    assert "did you mean 'loss'?" in mlobs("best", "los", code=2).stderr


def test_plot_draws_the_metric_of_the_runs_with_a_line_for_each(ids):
    pytest.importorskip("plotext")
    out = mlobs("plot", "loss", *ids[:2], "--width", "60", "--height", "16").stdout
    lines = out.splitlines()
    assert lines[-2:] == [f" a run-0 {ids[0]}", f" b run-1 {ids[1]}"]
    assert "loss" in lines[0]
    assert max(map(len, lines[:-2])) <= 60
    assert "\x1b" not in out
    rows = [(at, line.index("a")) for at, line in enumerate(lines[1:-4]) if "a" in line]
    assert rows[0][1] < max(column for _, column in rows), "it falls first, and rises then"
    assert "step" in out
    assert "seconds since the start" in mlobs("plot", "loss", "--time").stdout


def test_plot_of_one_run_is_a_curve_and_takes_the_newest_runs_by_itself(store, ids):
    pytest.importorskip("plotext")
    assert re.search("[\u2801-\u28ff]", mlobs("plot", "loss", ids[0]).stdout)
    for number in range(8):
        record_run(store, Metrics(9001.0, 0, {"loss": 1.0}), at=9000.0 + number, name=f"new-{number}")
    drawn = mlobs("plot", "loss")
    assert "3 older runs are left out" in drawn.stderr
    assert "run-2" not in drawn.stdout
    assert "new-0" in drawn.stdout


def test_plot_gives_the_points_and_smooths_them(ids):
    assert table("plot", "loss", ids[0])[:2] == [
        ["run_id", "key", "step", "value", "at"],
        [ids[0], "loss", "0", "3.0", "1970-01-01T00:16:41+00:00"],
    ]
    assert [row[3] for row in table("plot", "loss", ids[0], "--smooth", "2")[1:4]] == ["3.0", "2.5", "1.5"]
    assert json.loads(mlobs("plot", "loss", ids[0], "--time", "--json").stdout)[0]["elapsed_s"] == 1.0


def test_plot_names_the_runs_that_were_asked_for_and_are_not_drawn(store, ids):
    other = record_run(store, Metrics(9001.0, 0, {"auc": 0.5}), at=9000.0).run_id
    result = mlobs("plot", "loss", ids[0], other, "--json")

    assert {point["run_id"] for point in json.loads(result.stdout)} == {ids[0]}
    assert other in result.stderr
    assert ids[0] not in result.stderr


def test_plot_says_what_cannot_be_drawn(store):
    pytest.importorskip("plotext")
    assert "did you mean 'loss'?" in mlobs("plot", "lss", code=2).stderr
    record_run(store, Metrics(9001.0, 0, {"bad": float("nan"), "neg": -1.0}), at=9000.0)
    assert "no finite values" in mlobs("plot", "bad", code=2).stderr
    assert "no positive finite values" in mlobs("plot", "neg", "--log", code=2).stderr


@pytest.mark.parametrize("command", ["best", "plot"])
def test_what_is_missing_is_told_apart_a_metric_or_any_run(store, command):
    assert "did you mean 'loss'" in mlobs(command, "los", code=2).stderr
    other = mlobs(command, "loss", "--experiment", "chrn", code=2).stderr
    assert f"there are no runs of experiment 'chrn' in {store.path}; did you mean 'churn'?" in other
    assert f"no such runs in {store.path}" in mlobs(command, "loss", "--status", "failed", code=2).stderr


def test_many_points_are_thinned_and_keep_their_extremes(store):
    pytest.importorskip("plotext")
    values = [1.0] * 20_000
    values[7777] = 99.0
    record_run(store, *[Metrics(9001.0 + n, n, {"spiky": v}) for n, v in enumerate(values)], at=9000.0)
    assert re.search(r"^ *99┤", mlobs("plot", "spiky").stdout, re.MULTILINE)


def test_the_ends_of_both_axes_are_named_by_what_was_recorded(store):
    pytest.importorskip("plotext")
    points = [Metrics(9001.0 + n, n, {"loss": 10.0 ** -(8 * n)}) for n in range(4)]
    record_run(store, *points, at=9000.0)
    lines = mlobs("plot", "loss", "latest", "--log", "--width", "60").stdout.splitlines()
    assert lines[2].startswith("    1┤"), lines
    assert any(line.startswith("1e-24┤") for line in lines)
    assert lines[-3].split() == ["0", "1", "2", "3"], "steps are whole"


@pytest.mark.parametrize(
    ("ends", "labels"),
    [
        ((0.0, 1.0), ["0", "0.5", "1"]),
        ((0.99991, 0.99993), ["0.99991", "0.99992", "0.99993"]),
        ((-1.7e308, 1.7e308), ["-1.7e+308", "0", "1.7e+308"]),
        ((3.0, 3.0), ["3"]),
    ],
)
def test_ticks_have_the_digits_that_tell_them_apart(ends, labels):
    assert tick_names(ticks(ends, 3)) == labels


def test_watch_prints_a_line_for_each_running_run_at_each_look(store):
    _, writer = open_run(store, Metrics(5001.0, 7, {"loss": 0.25, "system/cpu": 1.0}), at=5000.0, name="live")
    lines = mlobs("watch", "--times", "2", "--every", "0.1").stdout.splitlines()
    writer.close()
    assert len(lines) == 2
    assert "live" in lines[0]
    assert lines[0].endswith("step 7  loss=0.25")


def test_watch_as_json_is_a_document_a_line(store):
    folder, writer = open_run(store, Metrics(5001.0, 7, {"loss": 0.25}), at=5000.0)
    (line,) = mlobs("watch", "--times", "1", "--json").stdout.splitlines()
    writer.close()
    (running,) = json.loads(line)["running"]
    assert (running["run_id"], running["step"], running["metrics"]) == (folder.run_id, 7, {"loss": 0.25})


def test_watch_as_csv_has_a_row_for_each_value(store):
    folder, writer = open_run(
        store, Metrics(5001.0, 7, {"loss": 0.25}), Metrics(5001.0, 3, {"acc": 0.5}), at=5000.0, name="live"
    )
    headings, *rows = table("watch", "--times", "1")
    writer.close()
    assert headings == ["at", "run_id", "experiment", "name", "status", "step", "metric", "value"]
    assert [row[1:4] for row in rows] == [[folder.run_id, "churn", "live"]] * 2
    assert sorted(row[5:] for row in rows) == [["3", "acc", "0.5"], ["7", "loss", "0.25"]]


def test_show_as_csv_has_a_row_for_each_fact_and_value(ids):
    rows = table("show", ids[2])
    assert rows[0] == ["group", "name", "value"]
    assert ["run", "started", "1970-01-01T00:20:00+00:00"] in rows
    assert ["params", "lr", "0.2"] in rows
    assert ["metrics", "loss", "4.0"] in rows


@pytest.mark.parametrize("command", [["show", "latest"], ["watch"], ["tail", "latest"], ["datasets"]])
@pytest.mark.usefixtures("store")
def test_two_forms_at_once_are_refused_everywhere(command):
    assert "exclude each other" in mlobs(*command, "--json", "--csv", code=2).stderr


@pytest.mark.usefixtures("store")
def test_watch_without_a_running_run_says_so():
    assert "no run is running" in mlobs("watch", "--times", "1").stderr
    assert mlobs("watch", "--times", "1", "--experiment", "other").stdout == ""


def test_watch_sees_new_values_the_end_and_new_runs(store):
    folder, writer = open_run(store, at=5000.0, name="first")
    process = subprocess.Popen(
        [*MLOBS, "watch", "--every", "0.1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def until(holds):
        for line in process.stdout:
            if holds(json.loads(line)):
                return
        raise AssertionError(process.stderr.read())

    until(lambda seen: [one["metrics"] for one in seen["running"]] == [{}])
    writer.append(Metrics(5001.0, 1, {"loss": 0.5}))
    until(lambda seen: [one["metrics"] for one in seen["running"]] == [{"loss": 0.5}])
    writer.append(RunFinished(5002.0, "FINISHED"))
    until(lambda seen: seen["ended"] == [{"run_id": folder.run_id, "status": "FINISHED", "reason": ""}])
    writer.close()
    _, second = open_run(store, at=6000.0, name="second")
    until(lambda seen: [one["name"] for one in seen["running"]] == ["second"])
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    second.close()
    assert (process.returncode, errors) == (0, "")


def test_watch_forgets_a_run_that_is_removed(store):
    folder, writer = open_run(store, Metrics(5001.0, 1, {"loss": 0.5}), at=5000.0)
    live = LiveRuns(store)
    seen = [[one.summary.run_id for one in live.look()[0]]]
    writer.close()
    shutil.rmtree(folder.path)
    running, ended = live.look()

    assert (seen, running, ended) == ([[folder.run_id]], [], [])


def test_tail_ends_when_the_run_that_it_follows_is_removed(store):
    folder, writer = open_run(store, Metrics(5001.0, 1, {"loss": 0.5}), at=5000.0)
    tail = LogTail(folder)
    before = (tail.read(), tail.has_ended())
    writer.close()
    shutil.rmtree(folder.path)

    assert before == ([], False)
    assert (tail.read(), tail.has_ended()) == ([], True)


def test_watch_on_a_terminal_is_a_table_and_ctrl_c_leaves_it_clean(store):
    _, writer = open_run(store, Metrics(5001.0, 7, {"loss": 0.25}), at=5000.0, name="live")
    control, terminal = pty.openpty()
    process = subprocess.Popen(
        [*MLOBS, "watch", "--every", "0.2"],
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"},
    )
    os.close(terminal)
    shown = b""
    deadline = time.monotonic() + 30
    while shown.count(b"Ctrl-C") < 2 and time.monotonic() < deadline:
        if select.select([control], [], [], 1)[0]:
            shown += os.read(control, 65536)
    process.send_signal(signal.SIGINT)
    while process.poll() is None and time.monotonic() < deadline:
        if select.select([control], [], [], 0.1)[0]:
            try:
                shown += os.read(control, 65536)
            except OSError:
                break  # the other end is closed
    assert process.wait(30) == 0
    writer.close()
    os.close(control)
    text = shown.decode()
    assert "silent for" in text
    assert "live" in text
    assert "0.25" in text
    assert "1 running at" in text
    assert "Traceback" not in text
    assert text.rstrip().endswith("\x1b[?25h") or "\x1b[?25l" not in text, "the cursor is shown again"
