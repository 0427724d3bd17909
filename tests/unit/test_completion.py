"""What the tab key offers, and that it is quick."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from recorded import open_run, record_run
from typer.testing import CliRunner

import mlobs
from mlobs.cli import completion
from mlobs.cli.app import app
from mlobs.events import Metrics
from mlobs.journal.store import RunFolder, Store

SOURCE = str(Path(mlobs.__file__).parent.parent)
SHELLS = ["bash", "zsh", "fish", "powershell"]


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MLOBS_")]:
        monkeypatch.delenv(name)
    made = Store(tmp_path / ".mlobs")
    made.create()
    return made


class Context:
    """What of typer's context the completion reads."""

    def __init__(self, store=None):
        self.params = {"store": None if store is None else str(store)}


def offered(beginning="", context=None):
    return [run for run, _ in completion.complete_run(context or Context(), beginning)]


def press_tab(line, cwd):
    """What bash gets from the command itself."""
    words = line.split(" ")
    env = {**os.environ, "_MLOBS_COMPLETE": "complete_bash", "COMP_WORDS": line, "PYTHONPATH": SOURCE}
    done = subprocess.run(
        [sys.executable, "-m", "mlobs"],
        cwd=cwd,
        env={**env, "COMP_CWORD": str(len(words) - 1)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.split(), done.stderr


def test_runs_are_offered_newest_first_behind_latest(store):
    ids = [record_run(store, at=at).run_id for at in (1000.0, 2000.0)]

    assert offered() == ["latest", *ids[::-1]]
    assert offered(ids[0][:20]) == [ids[0]]
    assert offered("lat") == ["latest"]


def test_a_run_is_offered_with_its_names(store):
    run = record_run(store, experiment="churn", name="baseline")

    assert (run.run_id, "churn / baseline") in completion.complete_run(Context(), "")


@pytest.mark.usefixtures("store")
def test_the_store_that_was_typed_is_the_one_that_is_asked(tmp_path):
    elsewhere = Store(tmp_path / "elsewhere")
    elsewhere.create()
    run = record_run(elsewhere)

    assert offered(context=Context(elsewhere.path)) == ["latest", run.run_id]
    assert offered() == []


def test_where_there_is_no_store_nothing_is_offered_and_nothing_is_said(tmp_path):
    assert offered(context=Context(tmp_path / "nowhere")) == []
    assert completion.complete_metric(Context(tmp_path / "nowhere"), "") == []


def test_names_of_metrics_come_from_the_runs(store):
    record_run(store, Metrics(1.0, 0, {"loss": 1.0, "val/acc": 0.5, "system/cpu": 3.0}), at=1000.0)
    record_run(store, Metrics(1.0, 0, {"auc": 1.0}), at=2000.0)

    assert completion.complete_metric(Context(), "") == ["auc", "loss", "val/acc"]
    assert completion.complete_metric(Context(), "v") == ["val/acc"]
    assert completion.complete_metric(Context(), "system/") == ["system/cpu"]


def test_a_run_that_is_removed_meanwhile_costs_no_other_name(store, monkeypatch):
    record_run(store, Metrics(1.0, 0, {"loss": 1.0}), at=1000.0)
    gone = record_run(store, Metrics(1.0, 0, {"auc": 1.0}), at=2000.0)
    (journal,) = gone.journals()
    listed = RunFolder.journals
    monkeypatch.setattr(RunFolder, "journals", lambda run: [journal] if run == gone else listed(run))
    journal.unlink()

    assert completion.complete_metric(Context(), "") == ["loss"]


def test_a_long_run_is_not_read_to_its_end(store):
    _, writer = open_run(store)
    for step in range(200_000):
        writer.append(Metrics(1.0, step, {"loss": 1.0}))
    writer.close()

    began = time.process_time()
    assert completion.complete_metric(Context(), "") == ["loss"]
    assert time.process_time() - began < completion.PATIENCE_S


def test_a_store_of_many_runs_is_answered_in_time(store):
    for number in range(5_000):
        (store.path / "runs" / f"20240131-120000-{number:06d}-abcdef").mkdir()

    began = time.process_time()
    assert len(offered("2024")) == completion.MOST_RUNS
    assert time.process_time() - began < completion.PATIENCE_S


def test_the_tab_key_completes_commands_runs_and_options(store, tmp_path):
    run = record_run(store)

    assert press_tab("mlobs sho", tmp_path) == (["show"], "")
    assert press_tab("mlobs show ", tmp_path) == (["latest", run.run_id], "")
    assert press_tab(f"mlobs diff {run.run_id} {run.run_id[:12]}", tmp_path) == ([run.run_id], "")
    assert press_tab("mlobs rm --for", tmp_path) == (["--force"], "")


def completion_of(command, argument):
    """What the tab key offers for an argument, by the command's own parameters."""
    group = typer.main.get_command(app)
    context = group.commands[command].make_context(command, [], resilient_parsing=True)
    (parameter,) = [one for one in group.commands[command].params if one.name == argument]
    return [one.value for one in parameter.shell_complete(context, "")]


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        *((name, "run") for name in ("audit", "reproduce", "restore", "show", "tail", "verify")),
        *(
            (name, "runs")
            for name in ("compare", "export", "plot", "repair", "replay", "report", "rm", "sync")
        ),
        *(("diff", name) for name in ("first", "second")),
        ("verify", "other"),
    ],
)
def test_wherever_a_run_is_named_runs_are_offered(store, command, argument):
    run = record_run(store)

    assert completion_of(command, argument) == ["latest", run.run_id]


@pytest.mark.parametrize("command", ["best", "plot"])
def test_wherever_a_metric_is_named_metrics_are_offered(store, command):
    record_run(store, Metrics(1.0, 0, {"loss": 1.0}))

    assert completion_of(command, "metric") == ["loss"]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_its_script(shell, monkeypatch):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")

    shown = CliRunner().invoke(app, ["--show-completion", shell], prog_name="mlobs")

    assert shown.exit_code == 0, shown.output
    assert "_MLOBS_COMPLETE" in shown.output
