"""Trouble of the sender costs no run its record, is said once, and the next sender or sync does the rest."""

import fcntl
import os
import signal
import subprocess
import sys

import pytest
from programs import (
    delivered,
    end_sender,
    environment,
    eventually,
    local_points,
    only_run,
    run,
    run_ids,
    running,
    sender_of,
    write,
)

import mlobs
from mlobs.backends.mlflow_client import database_lock
from mlobs.delivery.report import report
from mlobs.errors import Unavailable
from mlobs.journal.process import is_alive
from mlobs.journal.store import Store
from mlobs.sending import MAX_STARTS

pytestmark = pytest.mark.slow

KEEPER = '''
import json, os
from dataclasses import dataclass
from mlobs.backend import Capabilities, Receipt
from mlobs.errors import Unavailable

@dataclass
class Keeper:
    """Writes down each key that it is given; unavailable while the file `down` exists."""
    folder: str
    name: str = "keeper"
    capabilities = Capabilities()
    def deliver(self, batch):
        if os.path.exists(os.path.join(self.folder, "down")):
            raise Unavailable("the file says so")
        with open(os.path.join(self.folder, "kept"), "a") as file:
            file.write("".join(f"{batch.run.run_id} {entry.key}\\n" for entry in batch.entries))
        return Receipt(ref=batch.run.run_id)
    def close(self):
        pass
'''
TRAIN = """
import os, pathlib, sys, time
import mlobs, keepers

tracker = mlobs.Tracker("faults", backends=[keepers.Keeper(os.getcwd())], store="store", finish_timeout_s=5)
run = tracker.start_run()
for step in range(int(sys.argv[1])):
    run.log_metric("loss", 0.5, step=step)
    if step == 10 and len(sys.argv) > 2:
        pathlib.Path("ready").touch()
        while not pathlib.Path(sys.argv[2]).exists():
            time.sleep(0.01)
run.finish()
print("done", flush=True)
"""


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, KEEPER, "keepers.py")
    return tmp_path


def kept(folder):
    path = folder / "kept"
    return path.read_text().splitlines() if path.exists() else []


def check_once(folder, events):
    """Every event arrived, and only once."""
    lines = kept(folder)
    assert len(lines) == len(set(lines)) == events


def sync(folder, *arguments):
    command = [sys.executable, "-m", "mlobs", "sync", "--store", "store", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def sync_to_its_end(folder):
    process = sync(folder)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output.decode()


def test_a_sender_that_is_killed_again_and_again_is_given_up_and_sync_does_its_work(folder):
    (folder / "down").touch()
    source = TRAIN.replace("finish_timeout_s=5", "finish_timeout_s=20")
    with running(folder, source, 100) as program:
        killed = set()
        eventually(lambda: (folder / "store/runs").exists() and run_ids(folder))
        while len(killed) < MAX_STARTS:
            sender = eventually(lambda: sender_of(folder, run_ids(folder)[0]))
            if sender.pid not in killed:
                killed.add(sender.pid)
                os.kill(sender.pid, signal.SIGKILL)
                eventually(
                    lambda pid=sender.pid: not (s := sender_of(folder, run_ids(folder)[0])) or s.pid != pid
                )
        assert program.wait(timeout=60) == 0

    output = (folder / "output").read_text()
    assert output.count("mlobs sync") == 1
    assert only_run(folder).status == "FINISHED"
    (folder / "down").unlink()
    sync_to_its_end(folder)
    check_once(folder, 102)


def test_a_sender_that_cannot_be_started_is_said_once(folder):
    source = "import os, sys\nsys.executable = '/nowhere/python'\n" + TRAIN
    done = run(folder, source, 100)

    assert done.returncode == 0
    assert "done" in done.stdout
    assert done.stderr.count("the sender cannot be started") == 1
    sync_to_its_end(folder)
    check_once(folder, 102)


def test_a_sender_without_descriptors_delivers_when_it_has_some(folder):
    source = "import os, resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))\n" + TRAIN.replace(
        "run = tracker.start_run()", "runs = [tracker.start_run() for _ in range(8)]; run = runs[-1]"
    )
    done = run(folder, source, 100)

    assert done.returncode == 0, done.stderr
    assert "done" in done.stdout
    for run_id in run_ids(folder):
        end_sender(folder, run_id)
    sync_to_its_end(folder)
    lines = kept(folder)
    assert len(lines) == len(set(lines))
    ends = [one for one in run_ids(folder) if mlobs.load_run(one, store=folder / "store").end]
    assert len(ends) == 8
    assert len(lines) == 7 * 2 + 102


def test_a_sender_whose_python_lacks_the_vendor_waits_and_says_what_to_install(folder):
    source = TRAIN.replace("import mlobs, keepers", "import mlobs").replace(
        "keepers.Keeper(os.getcwd())", "mlobs.backends.TensorBoard(logdir='board')"
    )
    write(folder, "raise ImportError('no tensorboard here')", "tensorboard.py")
    done = run(folder, source, 100, PYTHONPATH=str(folder))

    assert done.returncode == 0
    assert done.stderr.count("mlobs sync") == 1
    assert "pip install" in done.stderr
    end_sender(folder, only_run(folder).run_id)
    (folder / "tensorboard.py").unlink()
    sync_to_its_end(folder)
    assert report(Store(folder / "store").run(only_run(folder).run_id))["tensorboard"].is_settled


def test_a_stopped_sender_stops_nobody(folder):
    """Its pipe fills up: 600 runs are opened meanwhile, and their orders wait."""
    source = TRAIN.replace(
        "run.finish()", "for _ in range(600): tracker.start_run().finish()\nrun.finish()"
    ).replace("finish_timeout_s=5", "finish_timeout_s=2")
    with running(folder, source, 100, "go") as program:
        eventually((folder / "ready").exists)
        sender = eventually(lambda: sender_of(folder, run_ids(folder)[0]))
        os.kill(sender.pid, signal.SIGSTOP)
        (folder / "go").touch()
        assert program.wait(timeout=60) == 0
        os.kill(sender.pid, signal.SIGCONT)

    eventually(lambda: is_alive(sender) is False)
    sync_to_its_end(folder)
    check_once(folder, 102 + 600 * 2)


DAEMON = """
import os, sys
import mlobs, keepers
tracker = mlobs.Tracker("faults", backends=[keepers.Keeper(os.getcwd())], store="store", finish_timeout_s=1)
tracker.start_run().log_metric("loss", 0.5, step=0)
os.closerange(3, 256)  # as programs do that become daemons
files = [open(f"mine-{number}", "wb") for number in range(64)]
with tracker.start_run() as run:
    run.log_metric("loss", 0.5, step=0)
files[0].flush()
print(sum(os.fstat(one.fileno()).st_size for one in files), flush=True)
os._exit(0)
"""


def test_orders_go_to_no_file_that_took_the_place_of_the_pipe(folder):
    done = run(folder, DAEMON)

    assert done.stdout.strip() == "0", done.stderr
    assert all(path.stat().st_size == 0 for path in folder.glob("mine-*"))


def test_two_syncs_at_once_deliver_once(folder):
    run(folder, TRAIN, 2000, MLOBS_MODE="offline")
    both = [sync(folder), sync(folder)]
    for one in both:
        one.communicate(timeout=60)

    assert 0 in [one.returncode for one in both]
    check_once(folder, 2002)


def test_the_next_run_of_the_store_finishes_what_a_sender_left(folder):
    (folder / "down").touch()
    run(folder, TRAIN, 100, MLOBS_LINGER_S="0.5", MLOBS_FINISH_TIMEOUT_S="0.5")
    left = only_run(folder).run_id
    eventually(lambda: sender_of(folder, left) is None)
    assert kept(folder) == []
    (folder / "down").unlink()

    run(folder, TRAIN, 50)

    eventually(lambda: delivered(folder, left, "keeper"))
    check_once(folder, 102 + 52)
    assert local_points(folder, left, "loss") == [(step, 0.5) for step in range(100)]


def test_the_next_run_leaves_alone_what_was_recorded_to_stay_offline(folder):
    run(folder, TRAIN, 100, MLOBS_MODE="offline")
    offline = only_run(folder).run_id
    run(folder, TRAIN, 50)
    online = run_ids(folder)[-1]
    sender = sender_of(folder, online)
    eventually(lambda: sender is None or is_alive(sender) is False)

    assert not any(line.startswith(offline) for line in kept(folder))
    check_once(folder, 52)


def test_a_lock_that_a_stopped_process_holds_is_not_waited_for_without_end(tmp_path):
    database = tmp_path / "mlflow.db"
    with (tmp_path / "mlflow.db.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with (
            pytest.raises(Unavailable, match="another process has held"),
            database_lock(str(database), patience_s=0.2),
        ):
            raise AssertionError
