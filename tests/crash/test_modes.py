"""Offline, disabled, and a store that cannot be: what is on the disk, and what is not."""

import os
import signal
import subprocess
import sys
import time

import pytest
from programs import (
    board_points,
    delivered,
    end_sender,
    eventually,
    local_points,
    only_run,
    run,
    running,
    sender_of,
    write,
)

import mlobs
from mlobs.journal.store import Store
from mlobs.sender.foreground import sync

TRAINING = """
import sys
import mlobs
backends = [mlobs.backends.TensorBoard("board")]
tracker = mlobs.Tracker("modes", store="store", backends=backends, **eval(sys.argv[1]))
with tracker.start_run("a", params={"lr": 0.1}) as run:
    with run.child("b") as child:
        child.log_metric("loss", 1.0)
    for step in range(100):
        run.log_metric("loss", step / 7)
    run.log_text("notes", "all is well")
    ref = run.get_backend_ref("tensorboard")
    reports = run.delivery()
"""


def test_offline_keeps_everything_until_sync(tmp_path):
    done = run(tmp_path, TRAINING, {"mode": "offline"})

    assert (done.returncode, done.stderr) == (0, "")  # it was asked for: no word about what waits
    assert not (tmp_path / "board").exists()
    assert not (tmp_path / "store" / "senders").exists()
    runs = list(Store(tmp_path / "store").runs())

    assert all(one.is_settled for one in sync(runs))
    assert all(one.is_settled for one in sync(runs))

    expected = [(step, step / 7) for step in range(100)]
    assert local_points(tmp_path, runs[0].run_id, "loss") == expected
    assert [step for step, _ in board_points(tmp_path, runs[0].run_id, "loss")] == list(range(100))
    assert board_points(tmp_path, runs[1].run_id, "loss") == [(0, 1.0)]


@pytest.mark.parametrize("how", [({"mode": "disabled"}, {}), ({}, {"MLOBS_MODE": "disabled"})])
def test_disabled_leaves_no_file_and_no_process_and_no_word(tmp_path, how):
    argument, env = how
    source = (
        TRAINING
        + "import os\nassert ref is None and not any(one.delivered for one in reports.values())\n"
        + "print(os.popen('ps -o ppid= -A').read())"
    )

    done = run(tmp_path, source, argument, **env)

    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


def test_disabled_is_quiet_in_threads_too(tmp_path):
    source = TRAINING + (
        "\nimport threading\n"
        "with tracker.start_run():\n"
        "    thread = threading.Thread(target=mlobs.log_metric, args=('loss', 1.0))\n"
        "    thread.start(); thread.join()\n"
    )

    assert run(tmp_path, source, {"mode": "disabled"}).stderr == ""


def test_a_store_that_cannot_be_written_is_refused_at_construction(tmp_path):
    (tmp_path / "file").write_text("a file in the way")

    with pytest.raises(mlobs.StoreError, match=r"cannot be written.*MLOBS_STORE") as caught:
        mlobs.Tracker("modes", store=tmp_path / "file" / "store")

    assert caught.value.filename == str(tmp_path / "file" / "store")


def test_threads_deliver_like_a_process_and_leave_none(tmp_path):
    done = run(tmp_path, TRAINING, {"delivery": "thread"})

    assert (done.returncode, done.stderr) == (0, "")
    first, second = Store(tmp_path / "store").runs()
    assert delivered(tmp_path, first.run_id, "tensorboard")
    assert delivered(tmp_path, second.run_id, "tensorboard")
    assert not (tmp_path / "store" / "senders").exists()
    assert len(board_points(tmp_path, first.run_id, "loss")) == 100


CRASHING_THREADS = """
import os, sys, time
import mlobs
backends = [mlobs.backends.TensorBoard("board")]
run = mlobs.Tracker("modes", store="store", backends=backends, delivery="thread").start_run()
run.log_metric("loss", 1.0)
while not run.delivery()["tensorboard"].delivered:
    time.sleep(0.01)
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
open("child", "w").write(str(child))
run.log_metric("loss", 2.0)
os._exit(1)
"""


def test_sync_takes_a_crashed_threaded_run_though_a_forked_child_lives_on(tmp_path):
    with running(tmp_path, CRASHING_THREADS) as training:
        assert training.wait(timeout=60) == 1
    child = int((tmp_path / "child").read_text())
    try:
        os.kill(child, 0)
        (synced,) = sync(Store(tmp_path / "store").runs())
    finally:
        os.kill(child, signal.SIGKILL)

    assert synced.is_settled, synced
    assert only_run(tmp_path).status == "CRASHED"
    assert board_points(tmp_path, only_run(tmp_path).run_id, "loss") == [(0, 1.0), (1, 2.0)]


def test_a_sender_that_cannot_start_is_a_warning_and_sync_delivers(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "senders").write_text("a file in the way")

    done = run(tmp_path, TRAINING, {"finish_timeout_s": 5})

    assert done.returncode == 0
    assert done.stderr.count("the sender cannot be started") == 1
    (first, second) = Store(tmp_path / "store").runs()
    assert all(one.is_settled for one in sync([first, second]))
    assert len(board_points(tmp_path, first.run_id, "loss")) == 100


LINGERING = """
import os
import mlobs
from down import Down

options = dict(store="store", backends=[Down()], finish_timeout_s=0)
for linger_s in ("0", "60", "0"):
    os.environ["MLOBS_LINGER_S"] = linger_s
    mlobs.Tracker("modes", **options).start_run().finish()
"""
DOWN = """
import dataclasses
import mlobs
from mlobs.backend import Capabilities

@dataclasses.dataclass
class Down:
    name: str = "down"
    capabilities = Capabilities()

    def deliver(self, batch):
        raise mlobs.Unavailable("down")

    def close(self):
        pass
"""


def test_the_sender_lingers_as_long_as_any_tracker_of_the_program_lets_it(tmp_path):
    write(tmp_path, DOWN, "down.py")
    done = run(tmp_path, LINGERING)
    ended = time.time()
    first, *_ = Store(tmp_path / "store").runs()

    def lives_on():
        sender = sender_of(tmp_path, first.run_id)
        assert sender is not None, f"it left {time.time() - ended:.1f} s after the program"
        return time.time() > ended + 2

    try:
        assert "for up to 60 s after this program" in done.stderr
        eventually(lambda: sender_of(tmp_path, first.run_id))
        eventually(lives_on)
    finally:
        end_sender(tmp_path, first.run_id)


HUNG = """
import dataclasses, time
import mlobs

@dataclasses.dataclass
class Hung:
    name: str = "hung"
    capabilities: mlobs.backend.Capabilities = mlobs.backend.Capabilities()

    def deliver(self, batch):
        time.sleep(1000)

    def close(self):
        pass

tracker = mlobs.Tracker("modes", store="store", backends=[Hung()], delivery="thread", finish_timeout_s=0.5)
run = tracker.start_run()
print(time.time())
"""


def test_a_thread_that_hangs_in_a_vendors_call_does_not_hold_the_program_up(tmp_path):
    done = run(tmp_path, "import mlobs.backend\n" + HUNG)

    assert time.time() - float(done.stdout) < 2
    assert done.returncode == 0
    assert "hung: 0 delivered, 2 pending" in done.stderr


def test_a_stderr_that_knows_little_does_not_disturb_the_end(tmp_path):
    source = """
import sys
class Tee:
    def __init__(self, file): self.file = file
    def write(self, text): self.file.write(text)
    def flush(self): self.file.flush()
sys.stderr = Tee(sys.stderr)
"""
    done = run(tmp_path, source + TRAINING, {"finish_timeout_s": 30})

    assert (done.returncode, done.stderr) == (0, "")
    assert delivered(tmp_path, Store(tmp_path / "store").find("latest").run_id, "tensorboard")


def test_at_a_prompt_an_exception_ends_no_run(tmp_path):
    typed = (
        f"import mlobs; run = mlobs.Tracker('e', store={str(tmp_path / 'store')!r}).start_run()\n"
        "a typo\n"
        "run.log_metric('a', 2.0)\n"
    )
    subprocess.run(
        [sys.executable, "-i", "-q"], input=typed, text=True, capture_output=True, check=True, timeout=60
    )

    record = mlobs.load_run("latest", store=tmp_path / "store")
    assert (record.status, record.last_metrics) == ("FINISHED", {"a": 2.0})
