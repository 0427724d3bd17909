"""The commands of reproducibility: what they print, and their exit codes."""

import csv
import inspect
import io
import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from msgspec.structs import replace
from programs_of_runs import NATIVE, dataset, losses, model, parts, program_run
from recorded import open_run
from typer.testing import CliRunner

import mlobs as package
from mlobs.cli.app import app
from mlobs.events import Params, RunFinished, RunStarted
from mlobs.journal import locks
from mlobs.journal.process import this_process
from mlobs.journal.store import Store

_APART = (
    {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
)  # before click 8.2
RUNNER = CliRunner(**_APART)


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


def mlobs(*arguments, code=0):
    """Run the command in this process; check its exit code and return what it printed."""
    result = RUNNER.invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return result


def as_json(*arguments, code=0):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(mlobs(*arguments, "--json", code=code).stdout, parse_constant=refuse)


# verify and diff


def test_verify_prints_the_verdict_and_exits_with_it(store):
    first, second = (program_run(store, *losses(0.5), model(), at=at) for at in (1000.0, 2000.0))
    printed = mlobs("verify", first.run_id, second.run_id).stdout.splitlines()
    assert printed[0].startswith("IDENTICAL: ")
    assert printed[1] == f"compared 1 metric value and 1 model of {first.run_id}"
    document = as_json("verify", first.run_id, "latest")
    assert (document["verdict"], document["exit_code"], document["points"]) == ("identical", 0, 1)


def test_equivalent_is_no_failure_but_with_strict(store):
    first = program_run(store, *losses(0.5))
    program_run(store, *losses(0.5 + 1e-9), snapshot=parts(native=None), at=2000.0)
    assert as_json("verify", first.run_id, "latest")["verdict"] == "equivalent"
    assert as_json("verify", first.run_id, "latest", "--strict", code=1)["exit_code"] == 1
    assert as_json("verify", first.run_id, "latest", "--rtol", "0", code=1)["verdict"] == "different"


def test_nan_and_infinity_in_a_verdict_are_strict_json(store):
    first = program_run(store, *losses(float("nan")))
    program_run(store, *losses(float("inf")), snapshot=parts(native=None), at=2000.0)
    document = as_json("verify", first.run_id, "latest", code=1)
    assert document["first_divergence"]["first"] == "NaN"
    assert document["first_divergence"]["relative"] == "Infinity"


def test_diff_says_what_differs_and_exits_as_diff_does(store):
    first = program_run(store, dataset(), *losses(0.5), params={"lr": 0.1, "note": "a\nb\x1b[2J"})
    second = program_run(store, dataset(), *losses(0.4), params={"lr": 0.2, "note": "a"})
    lines = mlobs("diff", first.run_id, second.run_id, code=1).stdout.splitlines()
    assert lines[:3] == ["", "params", "param lr: 0.1 -> 0.2"]
    assert lines[3] == "param note: a\\nb\\x1b[2J -> a"
    assert "loss: 0.5 -> 0.4 at step 0, at worst 0.2 apart" in lines
    document = as_json("diff", first.run_id, second.run_id, code=1)
    assert document["params"][0] == "param lr: 0.1 -> 0.2"
    assert document["runs"] == [first.run_id, second.run_id]


def test_diff_of_equal_runs_says_that_nothing_differs(store):
    first, second = (program_run(store, dataset(), *losses(0.5)) for _ in range(2))
    assert mlobs("diff", first.run_id, second.run_id).stdout == "nothing differs\n"
    assert as_json("diff", first.run_id, second.run_id)["metrics"] == []


def test_diff_of_runs_that_nobody_can_tell_apart_names_the_doubt(store):
    unknown = dataset(text="name:s3://a", strength="name")
    first, second = (program_run(store, unknown) for _ in range(2))
    printed = mlobs("diff", first.run_id, second.run_id).stdout
    assert "cannot be told" in printed
    assert printed.endswith("nothing differs of what is known\n")


def test_diff_names_what_was_not_captured(store):
    first, second = (program_run(store, snapshot=given) for given in (parts(), parts(code="no git")))
    assert f"{second.run_id}: code: no git" in mlobs("diff", first.run_id, second.run_id).stdout


@pytest.mark.parametrize(
    "command",
    [
        ("verify", "gone"),
        ("verify", "latest", "gone"),
        ("diff", "gone", "latest"),
        ("restore", "gone", "dest"),
        ("reproduce", "gone"),
    ],
    ids=lambda one: one[0],
)
def test_a_run_that_does_not_exist_is_one_line_that_says_what_to_type(store, command):
    program_run(store, *losses(0.5))
    result = mlobs(*command, code=2)
    assert result.stderr == (f"mlobs: no run 'gone' in the store {store.path} - `mlobs runs` lists them\n")
    assert result.stdout == ""


@pytest.mark.usefixtures("store")
def test_in_an_empty_store_too():
    assert "no run 'latest'" in mlobs("verify", "latest", code=2).stderr
    assert "no run 'latest'" in mlobs("diff", "latest", "latest", code=2).stderr
    assert "no run 'latest'" in mlobs("reproduce", "latest", code=2).stderr


# datasets and fingerprint


def test_datasets_lists_every_version_and_how_many_runs_used_it(store):
    tracker = package.Tracker(store=store.path, delivery="thread", repro="off")
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    ids = []
    for data, version in ((frame, "1"), (frame, "1"), (frame.assign(x=0.0), None)):
        with tracker.start_run() as run:
            run.log_dataset("prices", data, version=version)
        ids.append(run.id)
    lines = mlobs("datasets").stdout.splitlines()
    assert lines[0].split() == [
        "name",
        "version",
        "strength",
        "rows",
        "size",
        "runs",
        "first",
        "used",
        "fingerprint",
    ]
    assert [line.split()[0] for line in lines[1:]] == ["prices", "prices"]
    rows = as_json("datasets", "prices")
    assert {one["label"]: sorted(one["runs"]) for one in rows} == {
        "1": ids[:2],
        package.fingerprint(frame.assign(x=0.0)).text[5:15]: ids[2:],
    }
    assert as_json("datasets", "other") == []
    headings, *rows = csv.reader(io.StringIO(mlobs("datasets", "prices", "--csv").stdout))
    assert headings[0] == "name"
    assert [(row[0], row[-1]) for row in rows] == [("prices", "2"), ("prices", str(len(ids) - 2))]


@pytest.mark.usefixtures("store")
def test_datasets_of_a_store_without_any_says_how_to_get_one():
    result = mlobs("datasets")
    assert result.stdout == ""
    assert 'no dataset yet - in a run, type: run.log_dataset("train", data)' in result.stderr
    assert as_json("datasets") == []


def test_fingerprint_prints_what_the_library_says(place):
    frame = pd.DataFrame({"x": [1.5, 2.5], "y": [1, 2]})
    frame.to_csv(place / "a.csv", index=False)
    assert mlobs("fingerprint", "a.csv").stdout == f"{package.fingerprint(place / 'a.csv').text}\n"
    assert mlobs("fingerprint", place).stdout.startswith("tree1:")
    lines = mlobs("fingerprint", "--table", "a.csv").stdout.splitlines()
    assert lines[0] == package.fingerprint(frame).text
    assert [line.split()[:2] for line in lines[1:]] == [["x", "f64"], ["y", "i64"]]
    assert as_json("fingerprint", "--table", "a.csv")["rows"] == 2
    assert mlobs("fingerprint", "gone.csv", code=2).stderr == (
        "mlobs: there is no gone.csv - name a file or a folder\n"
    )


# run


def run_command(*arguments, **how):
    return subprocess.run(
        [sys.executable, "-m", "mlobs", "run", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **how,
    )


@pytest.mark.usefixtures("place")
def test_run_exits_as_the_program_does_and_passes_its_arguments():
    code = "import sys; print(sys.argv[1:]); sys.exit(7)"
    done = run_command("--", sys.executable, "-c", code, "--seed", "x", "--", "y")
    assert (done.returncode, done.stdout) == (7, "['--seed', 'x', '--', 'y']\n")
    assert done.stderr == ""


@pytest.mark.usefixtures("place")
def test_run_fixes_what_has_to_be_fixed_before_python_starts():
    names = ["PYTHONHASHSEED", "MLOBS_SEED", "CUBLAS_WORKSPACE_CONFIG"]
    code = f"import os; print(*[os.environ.get(name) for name in {names}])"
    done = run_command("--seed", "7", "--", sys.executable, "-c", code)
    assert done.stdout.split() == ["7", "7", ":4096:8"]


@pytest.mark.usefixtures("place")
def test_run_says_what_is_wrong_with_what_was_typed():
    assert mlobs("run", code=2).stderr == (
        "mlobs: there is nothing to start - type: mlobs run --seed 7 -- python train.py\n"
    )
    assert "'no-such-program' cannot be started" in mlobs("run", "--", "no-such-program", code=2).stderr
    assert "4294967295" in mlobs("run", "--seed", "-1", "--", sys.executable, "-c", "", code=2).stderr


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")
@pytest.mark.usefixtures("place")
def test_run_exits_with_128_and_the_signal_that_ended_the_program():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run_command("--", sys.executable, "-c", code).returncode == 128 + 9


@pytest.mark.skipif(not hasattr(signal, "SIGTERM"), reason="signals of POSIX")
@pytest.mark.usefixtures("place")
def test_a_signal_to_run_reaches_the_program_and_its_end_is_awaited():
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('ended', flush=True), sys.exit(5)))\n"
        "print('ready', flush=True)\nsignal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "mlobs", "run", "--", sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout.readline() == "ready\n"
        started.terminate()
        assert started.stdout.readline() == "ended\n"
        assert started.wait(30) == 5


# restore and reproduce


_PROGRAM = """
import sys
import time
from pathlib import Path
import mlobs
seeding = mlobs.seed_everything()
import random
with mlobs.start_run("fit", params={"lr": float(sys.argv[1])}) as run:
    data = Path("data/train.csv")
    run.log_dataset("train", data)
    values = [float(line) for line in data.read_text().split()]
    for step, value in enumerate(values):
        run.log_metric("loss", value * float(sys.argv[1]) + random.random() + NOISE, step=step)
    run.log_metric("fit_time", __import__("time").perf_counter())
    Path("outputs").mkdir(exist_ok=True)
    Path("outputs/model.txt").write_text("done")
"""


@pytest.fixture
def project(place):
    """A real program in a repository, whose data git ignores, and its first run."""

    def make(noise="0.0"):
        folder = place / "project"
        (folder / "data").mkdir(parents=True)
        (folder / "fit.py").write_text(_PROGRAM.replace("NOISE", noise))
        (folder / ".gitignore").write_text("*.csv\noutputs/\n.mlobs/\n")
        (folder / "data" / "README").write_text("of the data\n")
        (folder / "data" / "train.csv").write_text("1.0\n2.0\n")
        for command in (
            ["init", "-q"],
            ["add", "-A"],
            ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first"],
        ):
            subprocess.run(["git", *command], cwd=folder, env=_clean(), check=True)
        subprocess.run([sys.executable, "fit.py", "0.1"], cwd=folder, env=_clean(), check=True, timeout=60)
        assert "mlobs.recipe" in package.load_run("latest", store=folder / ".mlobs").tags
        return folder

    return make


def _clean():
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLOBS_")}
    return kept | {"GIT_CONFIG_GLOBAL": os.devnull, "MLOBS_DELIVERY": "thread"}  # it ends with its snapshot


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_reproduction_that_is_ended_leaves_nothing_behind(project, tmp_path_factory, name):
    folder, temporary = project(), tmp_path_factory.mktemp("temporary")
    code = "import os, time; open(os.environ['STARTED'], 'w').write(str(os.getpid())); time.sleep(60)"
    number, started = getattr(signal, name), folder.parent / "started"
    obeyed = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
    before = signal.signal(number, obeyed)  # `nohup` and a shell's background ignore some
    with subprocess.Popen(
        [sys.executable, "-m", "mlobs", "reproduce", "latest", "--", sys.executable, "-c", code],
        cwd=folder,
        env=_clean() | {"TMPDIR": str(temporary), "STARTED": str(started)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as running:
        signal.signal(number, before)
        deadline = time.monotonic() + 60
        while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        running.send_signal(number)
        exit_code = running.wait(30)

    assert exit_code in (-number, 128 + number)
    assert not list(temporary.iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


@pytest.mark.slow
def test_a_program_is_restored_checked_and_reproduced(project, monkeypatch):
    folder = project()
    monkeypatch.chdir(folder)
    (folder / "fit.py").write_text("raise SystemExit('edited since')\n")
    printed = mlobs("restore", "latest", "../as-it-was").stdout
    assert str(folder) in printed
    assert (folder.parent / "as-it-was" / "data" / "README").read_text() == "of the data\n"
    assert "not empty" in mlobs("restore", "latest", "../as-it-was", code=2).stderr
    mlobs("restore", "latest", "beside")
    assert (folder / "beside" / "fit.py").read_bytes() == (
        folder.parent / "as-it-was" / "fit.py"
    ).read_bytes()

    document = as_json("reproduce", "latest", "--check-only")
    assert (document["exit_code"], document["is_ready"], document["repetitions"]) == (0, True, [])
    assert document["folder"] is None
    assert mlobs("reproduce", "latest", "--check-only").stdout.startswith("CHECKED: ")

    document = as_json("reproduce", "latest")
    assert (document["verdict"], document["points"], document["ignored"]) == ("identical", 2, ["fit_time"])
    assert document["folder"] is None
    assert f"dataset train is unchanged: {folder / 'data' / 'train.csv'}" in document["checks"]
    assert [one.run_id for one in Store(folder / ".mlobs").runs()] == [document["run_id"]]

    (folder / "data" / "train.csv").write_text("1.0\n2.5\n")
    document = as_json("reproduce", "latest", "--dest", "../again", code=2)
    assert document["verdict"] == "inputs-differ"
    assert "dataset train: the content changed" in document["inputs"]
    assert (folder.parent / "again" / "repetition-1" / "output.log").exists()


@pytest.mark.slow
def test_a_secret_of_the_command_line_is_asked_for_and_never_shown(place):
    (place / "fit.py").write_text(
        "import sys, mlobs\n"
        "with mlobs.start_run('fit') as run:\n"
        "    run.log_metric('loss', len(sys.argv[2]))\n"
    )
    secret = ["--api-key", "s3cr3t-value-123456"]
    subprocess.run([sys.executable, "fit.py", *secret], cwd=place, env=_clean(), check=True, timeout=60)
    asked = mlobs("reproduce", "latest", code=4).stdout
    assert "a secret was taken out of its command line" in asked
    assert "type: mlobs reproduce RUN -- python" in asked
    done = mlobs("reproduce", "latest", "--dest", "again", "--", "python", "fit.py", *secret)
    assert done.stdout.startswith("IDENTICAL: ")
    assert "running it again: python fit.py --api-key [redacted]" in done.stderr
    kept = [path for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    assert kept
    assert not [path for path in kept if secret[1].encode() in path.read_bytes()]


@pytest.mark.slow
def test_a_program_that_is_not_deterministic_is_found_out(project, monkeypatch):
    folder = project(noise="random.SystemRandom().random()")
    monkeypatch.chdir(folder)
    document = as_json("reproduce", "latest", code=3)
    assert document["verdict"] == "nondeterministic"
    assert len(document["repetitions"]) == 2
    assert document["spread"][0].startswith("loss: ")
    assert document["first_divergence"]["step"] == 0
    once = as_json("reproduce", "latest", "--repeat", "1", "--tolerance", "loss=10", code=0)
    assert once["verdict"] == "equivalent"
    assert as_json("reproduce", "latest", "--repeat", "1", code=1)["verdict"] == "different"


@pytest.mark.slow
def test_a_run_that_has_just_ended_is_waited_for_until_its_snapshot_is_there(place):
    """The sender captures beside the program, and a short program is gone by then."""
    (place / "fit.py").write_text(
        "import mlobs\nwith mlobs.start_run('fit') as run:\n    run.log_metric('loss', 0.5)\n"
    )
    environment = {name: value for name, value in _clean().items() if name != "MLOBS_DELIVERY"}
    subprocess.run([sys.executable, "fit.py"], cwd=place, env=environment, check=True, timeout=60)
    mlobs("restore", "latest", "as-it-was")
    assert (place / "as-it-was" / "fit.py").exists()
    assert as_json("reproduce", "latest", "--env", "current", "--check-only")["is_ready"]


def test_what_cannot_be_reproduced_says_why_and_exits_with_4(store):
    program_run(store, *losses(0.5), snapshot=[])
    printed = mlobs("reproduce", "latest", "--env", "current", code=4).stdout
    assert printed.startswith("UNVERIFIABLE: ")
    assert "kept in" not in printed  # an empty folder is of no use
    for part in ("entry", "code", "environment", "native"):
        assert f"  obstacle: {part}: not captured" in printed


def test_only_code_that_was_edited_late_stands_in_the_way(store):
    """What a program writes beside its code within the first second is its output."""
    late = ["changed after the start: outputs/log.csv", "changed after the start: fit.py"]
    other = {"path": "/p", "place": "", "tree": "a" * 40, "kind": "plain", "warnings": late}
    run = program_run(store, *losses(0.5), snapshot=parts(code=other))
    document = as_json("reproduce", run.run_id, "--env", "current", code=4)
    assert document["notes"] == late[:1]
    assert document["obstacles"][0] == late[1]


def test_a_run_of_several_ranks_asks_for_its_launcher(store):
    run = program_run(store, *losses(0.5), world_size=4)
    (obstacle, *_) = as_json("reproduce", run.run_id, "--env", "current", code=4)["obstacles"]
    assert obstacle == (
        "the run had 4 ranks, and the record does not say what launched them - type:"
        f" mlobs reproduce {run.run_id} -- torchrun --nproc-per-node 4 train.py"
    )


def test_a_run_that_was_resumed_is_noted(store):
    folder, writer = open_run(store, Params(1000.0, {"lr": 1}))
    writer.append(RunStarted(2000.0, folder.run_id, "churn", "baseline", this_process(), attempt=2))
    writer.append(RunFinished(2060.0, "FINISHED"))
    writer.close()
    document = as_json("reproduce", folder.run_id, "--env", "current", code=4)
    assert document["notes"] == ["the run was resumed, 2 attempts in all: the program runs through at once"]


def test_a_run_that_still_runs_is_not_reproduced(store):
    folder, writer = open_run(store, *losses(0.5))
    (obstacle, *_) = as_json("reproduce", folder.run_id, code=4)["obstacles"]
    assert obstacle.startswith(f"run {folder.run_id} is still running - wait for its end")
    writer.close()


def test_options_that_make_no_sense_are_refused(store):
    program_run(store, *losses(0.5))
    assert "expected METRIC=RTOL - type: --tolerance val/loss=1e-4" in (
        mlobs("reproduce", "latest", "--tolerance", "loss", code=2).stderr
    )
    assert mlobs("reproduce", "latest", "--repeat", "0", code=2)
    assert mlobs("reproduce", "latest", "--rtol", "-1", code=2)
    assert "is not empty" in mlobs("reproduce", "latest", "--dest", ".", code=2).stderr


# show


def test_show_says_in_a_line_what_each_part_of_the_snapshot_holds(store):
    code = {
        "path": "/p",
        "place": "",
        "tree": "a" * 40,
        "kind": "git",
        "commit": "c" * 40,
        "branch": "main",
        "is_dirty": True,
        "pack_bytes": 2500,
        "excluded": [{"path": "a.bin"}],
        "warnings": ["changed after the start: a\nb"],
    }
    library = {"api": "openblas", "version": "0.3.27", "architecture": "Zen", "threads": 2}
    program_run(
        store,
        *losses(0.5),
        snapshot=parts(
            code=code,
            native=NATIVE | {"libraries": [library]},
            modules={"local": 3, "changed": ["/p/fit.py"]},
            patch={"file": "changes.diff", "size_bytes": 1234},
            gpus={"gpus": []},
            code__libs="PermissionError: libs",
        ),
    )
    shown = mlobs("show", "latest").stdout
    for line in (
        "python3 train.py --lr 0.1",
        "commit cccccccccccc on main, with changes, tree aaaaaaaaaaaa, pack of 2.5 kB, 1 not packed, ",
        "CPython 3.11.7, 3 packages, eeeeeeeeeeee",
        "openblas 0.3.27 Zen with 2 threads",
        "seed 7: random",
        "3 files of its own code; edited: /p/fit.py",
        "changes.diff, 1.2 kB",
        "PermissionError: libs",
    ):
        assert line in shown, shown
    assert "a\\nb" in shown


def test_show_says_of_a_snapshot_in_work_that_it_is_and_cuts_only_what_is_long(store):
    short = [replace(one, at=time.time()) for one in parts() if one.part == "entry"]
    folder = program_run(store, *losses(0.5), snapshot=short, at=time.time() - 60).folder
    assert "still at it" not in mlobs("show", folder.run_id).stdout
    store.senders.mkdir()
    with (store.senders / f"{os.getpid()}-abc.log").open("w") as output:
        locks.lock(output.fileno())
        printed = mlobs("show", folder.run_id).stdout
    assert "the sender is still at it" in printed
    assert "python3 train.py --lr 0.1\n" in printed
    assert "full value" not in printed
