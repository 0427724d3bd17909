"""What the command `mlobs` promises: what it prints, and its exit codes."""

import csv
import inspect
import io
import json
import math
import os
import pty
import subprocess
import sys

import pytest
from recorded import add_writer, flip, open_run, record_run, vanished_run
from typer.testing import CliRunner

from mlobs.cli.app import app
from mlobs.events import Artifact, BackendSpec, Dataset, Log, Metrics, Params, RunFinished, Tags
from mlobs.journal.store import Store

MLOBS = [sys.executable, "-m", "mlobs"]
_APART = (
    {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
)  # before click 8.2
RUNNER = CliRunner(**_APART)

LINES_BACKEND = """
from dataclasses import dataclass, field
from mlobs.backend import Capabilities, Receipt
from mlobs.errors import Unauthorized

@dataclass
class Lines:
    path: str
    token: str = field(default="", metadata={"secret": True})
    name: str = "lines"
    capabilities = Capabilities()

    def deliver(self, batch):
        if not self.token:
            raise Unauthorized("no token")
        with open(self.path, "a") as file:
            file.writelines(f"{entry.key}\\n" for entry in batch.entries)
        return Receipt(ref="lines-7", url="http://lines/7")

    def close(self):
        pass
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory without any configuration but its own."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MLOBS_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def store(place):
    made = Store(place / ".mlobs")
    made.create()
    return made


@pytest.fixture
def lines(place, monkeypatch):
    """A third party's backend, set in a configuration file."""
    modules = place / "modules"
    modules.mkdir()
    (modules / "lines_backend.py").write_text(LINES_BACKEND)
    monkeypatch.syspath_prepend(modules)
    out = place / "out.txt"
    (place / "mlobs.toml").write_text(
        f'[backends.lines]\ntype = "lines_backend:Lines"\npath = "{out}"\ntoken = "top-secret"\n'
    )
    yield out
    sys.modules.pop("lines_backend", None)


def mlobs(*arguments, code=0):
    """Run the command in this process; check its exit code and return what it printed."""
    result = RUNNER.invoke(app, list(arguments))
    assert result.exit_code == code, (result.output, result.exception)
    return result


def as_json(*arguments, code=0):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(mlobs(*arguments, "--json", code=code).stdout, parse_constant=refuse)


def test_runs_lists_the_newest_first_with_whole_ids(store):
    ids = [record_run(store, Metrics(at, 0, {"loss": 0.5}), at=at).run_id for at in (1000.0, 2000.0)]
    lines = mlobs("runs").stdout.splitlines()
    assert lines[0].split() == [
        "run",
        "id",
        "experiment",
        "name",
        "status",
        "started",
        "(UTC)",
        "took",
        "loss",
    ]
    assert [line.split()[0] for line in lines[1:]] == ids[::-1]
    assert lines[1].endswith("1m 0s   0.5")


def test_an_empty_store_and_one_that_nobody_made_yet_are_no_error(place):
    assert mlobs("runs").stdout == ""
    assert as_json("runs") == []
    assert not (place / ".mlobs").exists()


def test_runs_are_chosen_by_experiment_and_status(store):
    record_run(store, experiment="a", name="one")
    record_run(store, experiment="b", name="two", status="FAILED")
    assert [run["name"] for run in as_json("runs", "--experiment", "b")] == ["two"]
    assert [run["name"] for run in as_json("runs", "--status", "failed")] == ["two"]
    assert as_json("runs", "--experiment", "a", "--status", "FAILED") == []


def test_sorting_takes_any_key_and_puts_runs_that_lack_it_last(store):
    for name, at, values in (("a", 1.0, {"loss": 0.5}), ("b", 2.0, {}), ("c", 3.0, {"loss": 0.1})):
        record_run(store, Metrics(at, 0, values), Params(at, {"depth": at}), name=name, at=at)
    record_run(store, Metrics(4.0, 0, {"loss": math.nan}), name="d", at=4.0)

    def names(*arguments):
        return "".join(run["name"] for run in as_json("runs", *arguments))

    assert names() == "dcba"
    assert names("--reverse") == "abcd"
    assert names("--sort", "loss") == "cabd"
    assert names("--sort", "metrics.loss", "--reverse") == "acbd"
    assert names("--sort", "params.depth", "--limit", "1") == "a"
    assert names("--sort", "started", "--reverse") == "dcba"
    assert "metrics.loss" in mlobs("runs", "--sort", "nonsense", code=2).stderr


def test_a_limit_is_said_and_can_be_lifted(store):
    for at in range(5):
        record_run(store, at=float(at + 1))
    shown = mlobs("runs", "--limit", "2")
    assert (len(shown.stdout.splitlines()), "3 more" in shown.stderr) == (3, True)
    assert len(mlobs("runs", "--limit", "0").stdout.splitlines()) == 6
    assert len(as_json("runs")) == 5


def test_json_is_strict_and_says_what_is_not_a_number(store):
    record_run(store, Metrics(1001.0, 0, {"a": math.nan, "b": -math.inf, "c": 0.1}))
    (run,) = as_json("runs")
    assert run["metrics"] == {"a": "NaN", "b": "-Infinity", "c": 0.1}
    assert run["started"] == "1970-01-01T00:16:40+00:00"
    assert run["parent_run_id"] is None


def test_a_name_cannot_break_the_lines_or_colour_the_terminal(store):
    record_run(store, Tags(1001.0, {"note": "two\nlines"}), name="a\x1b[31mb\nc")
    assert r"a\x1b[31mb\nc" in mlobs("runs").stdout
    assert r"two\nlines" in mlobs("show", "latest").stdout


def test_show_says_all_that_is_known_of_a_run(store):
    record_run(
        store,
        Params(1001.0, {"lr": 0.1, "layers": [64, 32]}),
        *(Metrics(1002.0 + step, step, {"loss": value}) for step, value in enumerate((0.5, math.nan, 0.25))),
        Tags(1003.0, {"team": "x"}),
        Artifact(1004.0, "plots/roc.png", 1_500_000, "figure", "image/png", data=b"1"),
        Dataset(1005.0, "train", "v2", "abcdef", "content"),
        Log(1006.0, "a line"),
        parent_run_id="parent-1",
    )
    text = " ".join(mlobs("show", "latest").stdout.split())
    for expected in (
        "name baseline", "experiment churn", "status FINISHED", "took 1m 0s", "parent parent-1",
        "lr 0.1", "layers [64,32]", "loss 0.25 0.25 0.5 3 2", "team x",
        "plots/roc.png figure 1.5 MB image/png",
        "train train v2 content abcdef",
    ):  # fmt: skip
        assert expected in text
    document = as_json("show", "latest")
    assert document["metrics"]["loss"] == {
        "last": 0.25,
        "last_step": 2,
        "min": 0.25,
        "max": 0.5,
        "points": 3,
        "first": 0.5,
        "mean": 0.375,
    }
    assert document["artifacts"][0]["size_bytes"] == 1_500_000
    assert document["damage"] == []


def test_the_load_of_the_program_has_a_table_of_its_own_and_no_column(store):
    load = {f"system/{n}": 1.0 for n in range(5)}
    record_run(store, Metrics(1001.0, 0, load), Metrics(1002.0, 0, {"loss": 0.5}))

    first, load_table = mlobs("show", "latest").stdout.split("system metrics")
    assert "system/" not in first
    assert "system/0" in load_table
    heads = mlobs("runs").stdout.splitlines()[0]
    assert heads.endswith("loss")
    assert "system/" not in heads


def test_show_prints_the_traceback_of_a_failed_run(store):
    folder, writer = open_run(store)
    writer.append(
        RunFinished(1001.0, "FAILED", "ValueError: no", "Traceback:\n  ValueError: no", 1, unrecorded=3)
    )
    writer.close()
    shown = mlobs("show", folder.run_id).stdout
    assert "Traceback:\n  ValueError: no" in shown
    assert "3 calls could not be kept" in shown


def test_show_names_damage(store):
    folder = record_run(store, Params(1001.0, {"lr": 0.1}))
    path = folder.journals()[0]
    flip(path, path.stat().st_size // 2)
    assert path.name in mlobs("show", "latest").stdout
    assert len(as_json("show", "latest")["damage"]) == 1


@pytest.mark.usefixtures("store")
def test_what_cannot_be_done_as_typed_is_one_line_and_exit_code_2():
    for arguments in (("show", "nonsense"), ("runs", "--store", "no-such-folder"), ("sync", "nonsense")):
        result = mlobs(*arguments, code=2)
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
        assert result.stderr.startswith("mlobs: ")
    mlobs("runs", "--no-such-option", code=2)
    mlobs("no-such-command", code=2)


def test_config_says_where_each_setting_comes_from_and_shows_no_secret(lines, monkeypatch):
    monkeypatch.setenv("MLOBS_MODE", "offline")
    shown = mlobs("config")
    assert "top-secret" not in shown.stdout
    assert str(lines) in shown.stdout
    document = as_json("config")
    assert document["mode"]["value"] == "offline"
    assert document["mode"]["origin"] == "environment MLOBS_MODE"
    assert document["mode"]["variable"] == "MLOBS_MODE"
    assert document["backends"]["value"] == ["lines"]
    assert "mlobs.toml" in document["backends"]["origin"]
    assert document["backend_options"]["lines"]["token"] == "(not shown)"


def test_options_of_a_backend_that_cannot_be_made_are_all_kept_back(place):
    (place / "mlobs.toml").write_text('[backends.far]\ntype = "no_such_module:Far"\nkey = "top-secret"\n')
    assert as_json("config")["backend_options"]["far"] == {"type": "no_such_module:Far", "key": "(not shown)"}


@pytest.mark.usefixtures("place")
def test_a_setting_that_cannot_be_used_is_exit_code_2(monkeypatch):
    monkeypatch.setenv("MLOBS_MODE", "sideways")
    assert "sideways" in mlobs("config", code=2).stderr


def _findings(*arguments, code=0):
    return {one["what"]: (one["verdict"], one["finding"]) for one in as_json("doctor", *arguments, code=code)}


def test_doctor_finds_nothing_wrong_with_a_fresh_place_and_makes_nothing(place):
    findings = _findings()
    assert findings["store"][0] == "ok"
    assert "made by the first run" in findings["store"][1]
    assert findings["journal"][0] == "ok"
    assert not (place / ".mlobs").exists()


def test_doctor_counts_crashed_runs_and_calls_damage_wrong(store):
    vanished_run(store)
    assert _findings()["runs"] == ("note", "1 CRASHED")
    path = record_run(store, Params(1001.0, {"lr": 0.1})).journals()[0]
    flip(path, path.stat().st_size // 2)
    assert _findings(code=1)["damage"][0] == "wrong"
    assert "wrong" in mlobs("doctor", code=1).stdout


@pytest.mark.usefixtures("lines")
def test_doctor_says_which_backend_cannot_be_made_and_which_runs_wait(store, monkeypatch):
    record_run(store, backends=(BackendSpec("lines", "lines_backend:Lines"),))
    findings = _findings()
    assert findings["backend lines"][0] == "ok"
    assert findings["delivery"][0] == "note"
    assert "mlobs sync" in findings["delivery"][1]
    monkeypatch.setenv("MLOBS_BACKENDS", "lines,nonsense")
    assert _findings(code=1)["backend nonsense"][0] == "wrong"


def test_doctor_says_that_a_store_cannot_be_written(place):
    (place / "file").write_text("")
    verdict, finding = _findings("--store", "file/store", code=1)["store"]
    assert verdict == "wrong"
    assert "MLOBS_STORE" in finding


def test_sync_delivers_once_and_says_so(store, lines):
    folder = record_run(store, Params(1001.0, {"lr": 0.1}))
    shown = " ".join(mlobs("sync", "--backend", "lines").stdout.split())
    assert folder.run_id in shown
    assert "lines 3 0 0 0 0 http://lines/7" in shown
    mlobs("sync", "latest", "--backend", "lines")
    assert len(lines.read_text().splitlines()) == 3
    (document,) = as_json("sync", "--backend", "lines")
    assert document["is_settled"] is True
    assert document["delivery"]["lines"]["delivered"] == 3
    assert "http://lines/7" in mlobs("show", "latest").stdout


def test_sync_exits_with_1_while_something_is_pending(store, lines):
    spec = BackendSpec("unset", "lines_backend:Lines", {"path": str(lines), "name": "unset"})
    record_run(store, backends=(spec,))
    assert "unset: paused: no token" in mlobs("sync", code=1).stdout
    assert as_json("show", "latest")["delivery"]["unset"]["pending"] == 2


def test_sync_of_runs_without_a_backend_says_what_to_type(store):
    record_run(store)
    assert "--backend" in mlobs("sync").stderr


def test_a_reader_that_leaves_early_ends_the_command_quietly(store):
    for at in range(400):
        record_run(store, name="n" * 300, at=float(at + 1))
    with subprocess.Popen(
        [*MLOBS, "runs", "--limit", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=store.path.parent,
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        complaints = process.stderr.read()
        assert (process.wait(timeout=60), complaints) == (0, b"")


def test_the_real_command_answers_with_the_exit_code_and_loads_no_pandas(store):
    record_run(store)
    code = (
        "import sys; sys.argv = ['mlobs', 'show', 'nonsense']\n"
        "from mlobs.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'pandas', 'numpy', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=store.path.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (2, "[]")
    assert "Traceback" not in done.stderr
    listed = subprocess.run(
        [*MLOBS, "runs", "--json"], cwd=store.path.parent, capture_output=True, timeout=60, check=True
    )
    assert len(json.loads(listed.stdout)) == 1


def test_a_name_that_the_locale_cannot_spell_is_still_printed(store):
    record_run(store, name="模型")
    done = subprocess.run(
        [*MLOBS, "runs"], cwd=store.path.parent, capture_output=True, timeout=60, check=True,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert rb"\u6a21\u578b" in done.stdout


def test_on_a_narrow_terminal_ids_are_whole(store):
    folder = record_run(store, Params(1001.0, {"lr": 0.1}), name="a rather long name of a run")
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [*MLOBS, "runs"], stdout=terminal, stderr=terminal, cwd=store.path.parent,
        env=os.environ | {"COLUMNS": "40", "TERM": "xterm"},
    ) as process:  # fmt: skip
        os.close(terminal)
        shown = b""
        while chunk := _read_terminal(controller):
            shown += chunk
        assert process.wait(timeout=60) == 0
    os.close(controller)
    assert folder.run_id.encode() in shown


def _read_terminal(controller):
    try:
        return os.read(controller, 65536)
    except OSError:  # Linux answers EIO once the other side is closed
        return b""


def test_tail_prints_the_last_lines_of_all_writers_by_time(store):
    folder, writer = open_run(store, Log(1001.0, "one"), Metrics(1002.0, 0, {"loss": 1.0}))
    add_writer(folder, Log(1002.5, "two", "ERROR", "rank1", exception="Traceback:\n  no"))
    writer.append(Log(1003.0, "three\x1b[31m", stream="stdout"))
    writer.close()

    assert mlobs("tail", "latest").stdout.splitlines() == [
        "1970-01-01 00:16:41.000 INFO: one",
        "1970-01-01 00:16:42.500 ERROR rank1: two",
        "Traceback:",
        "  no",
        r"1970-01-01 00:16:43.000 stdout: three\x1b[31m",
    ]
    assert mlobs("tail", "latest", "-n", "1").stdout.count("\n") == 1
    lines = [json.loads(line) for line in mlobs("tail", "latest", "-n", "0", "--json").stdout.splitlines()]
    assert [line["message"] for line in lines] == ["one", "two", "three\x1b[31m"]
    assert lines[1]["at"] == "1970-01-01T00:16:42.500000+00:00"
    headings, *rows = csv.reader(io.StringIO(mlobs("tail", "latest", "-n", "0", "--csv").stdout))
    assert headings == ["at", "level", "logger", "stream", "message", "exception"]
    assert [(row[0][11:22], row[4]) for row in rows] == [
        ("00:16:41+00", "one"),
        ("00:16:42.50", "two"),
        ("00:16:43+00", "three\x1b[31m"),
    ]


def test_tail_prints_a_line_whose_time_is_beyond_all_calendars(store):
    record_run(store, Log(1e15, "from a clock that counts milliseconds", "INFO", "app"))
    assert "1970-01-01 00:00:00.000 INFO app: from a clock" in mlobs("tail", "latest").stdout


def test_tail_says_what_to_type_where_nothing_was_captured(store):
    record_run(store)
    assert "MLOBS_CAPTURE_LOGS" in mlobs("tail", "latest").stderr


def test_tail_follows_a_run_to_its_end(store):
    folder, writer = open_run(store, Log(1001.0, "before"))
    following = subprocess.Popen(
        [*MLOBS, "tail", folder.run_id, "-f"], stdout=subprocess.PIPE, text=True, cwd=store.path.parent
    )
    assert following.stdout is not None
    assert following.stdout.readline().endswith("before\n")
    writer.append(Log(1002.0, "while it is followed"))
    assert following.stdout.readline().endswith("while it is followed\n")
    writer.append(Log(1003.0, "the last word"))
    writer.append(RunFinished(1004.0, "FINISHED"))
    rest, _ = following.communicate(timeout=30)

    assert rest.endswith("the last word\n")
    assert following.returncode == 0


def test_tail_stops_when_the_followed_process_has_died(store):
    folder = vanished_run(store)
    assert mlobs("tail", folder.run_id, "-f").stdout == ""
