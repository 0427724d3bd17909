"""Other processes around a run: forked ones, multiprocessing's, and the one that waits for its output."""

import subprocess
import sys
import time

import pytest
from programs import (
    board_points,
    end_sender,
    environment,
    eventually,
    local_points,
    only_run,
    run,
    sender_of,
    write,
)

import mlobs
from mlobs.journal.store import Store

START = """
import multiprocessing, os, signal, sys, threading, time
import mlobs
tracker = mlobs.Tracker("forks", store="store", backends=BACKENDS)
""".replace("BACKENDS", "['tensorboard'] if 'tensorboard' in sys.argv else None")

LEAVES = {
    "by sys.exit": "run.log_metric('child', 1); sys.exit(3)",
    "by the end of the context": "pass",
    "by an exception": "raise ValueError('in the child')",
    "by finish()": "run.finish()",
    "by os._exit": "run.log_metric('child', 1); os._exit(0)",
    "by a signal": "run.log_metric('child', 1); os.kill(os.getpid(), 15); time.sleep(9)",
}


@pytest.mark.parametrize("in_context", [True, False])
@pytest.mark.parametrize("way", LEAVES)
def test_a_forked_child_never_ends_its_parents_run(tmp_path, way, in_context):
    opened = "with tracker.start_run() as run:" if in_context else "run = tracker.start_run()\nif True:"
    source = f"""
{opened}
    run.log_metric("parent", 1)
    child = os.fork()
    if child == 0:
        run.log_metric("child", 0)
        {LEAVES[way]}
    else:
        os.waitpid(child, 0)
        assert run.is_open
        run.log_metric("parent", 2)
if child:
    print("parent")
"""
    done = run(tmp_path, START + source)

    assert done.returncode == 0, done.stderr
    assert "parent" in done.stdout
    record = only_run(tmp_path)
    assert (record.status, record.reason) == ("FINISHED", "")
    assert local_points(tmp_path, record.run_id, "parent") == [(0, 1.0), (1, 2.0)]
    children = local_points(tmp_path, record.run_id, "child")
    assert children[0] == (0, 0.0)
    assert len(children) == (2 if "child', 1" in LEAVES[way] else 1)
    assert len(Store(tmp_path / "store").run(record.run_id).journals()) == 2  # the child has its own


MULTIPROCESSING = """
def work(number):
    mlobs.log_metric("loss", float(number), step=number)
    return number

if __name__ == "__main__":
    with tracker.start_run() as run:
        with multiprocessing.get_context("fork").Pool(3) as pool:
            assert pool.map(work, range(30)) == list(range(30))
        run.log_metric("loss", 30.0, step=30)
"""


def test_workers_of_a_forked_pool_log_into_the_run_that_was_current(tmp_path):
    done = run(tmp_path, START + MULTIPROCESSING)

    assert (done.returncode, done.stderr) == (0, "")
    record = only_run(tmp_path)
    assert record.status == "FINISHED"
    assert sorted(local_points(tmp_path, record.run_id, "loss")) == [(n, float(n)) for n in range(31)]
    assert record.damage == ()


CHILD_RUNS = """
def work(ending):
    run = tracker.start_run(ending)
    run.log_metric("loss", 1.0)
    if ending == "exits":
        sys.exit(3)
    if ending == "raises":
        raise ValueError("in the child")

if __name__ == "__main__":
    with tracker.start_run("parent"):
        for ending in ("ends", "exits", "raises"):
            child = multiprocessing.get_context(sys.argv[1]).Process(target=work, args=(ending,))
            child.start()
            child.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_childs_own_run_ends_with_the_child(tmp_path, method):
    run(tmp_path, START + CHILD_RUNS, method)

    frame = mlobs.runs(store=tmp_path / "store").set_index("name")
    assert frame["status"].to_dict() == {
        "parent": "FINISHED",
        "ends": "FINISHED",
        "exits": "FAILED",
        "raises": "FAILED",
    }
    assert frame["reason"]["exits"] == "sys.exit(3)"
    assert frame["reason"]["raises"] == "ValueError: in the child"


def test_forks_while_other_threads_log_lose_nothing(tmp_path):
    source = """
def log(name):
    for step in range(3000):
        run.log_metric(name, step, step=step)

with tracker.start_run() as run:
    threads = [threading.Thread(target=log, args=(f"thread {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        child = os.fork()
        if child == 0:
            run.log_metric("forked", number, step=number)
            os._exit(0)
        os.waitpid(child, 0)
    for thread in threads:
        thread.join()
"""
    done = run(tmp_path, START + source)

    assert done.returncode == 0, done.stderr
    record = only_run(tmp_path)
    assert record.damage == ()
    assert sorted(local_points(tmp_path, record.run_id, "forked")) == [(n, float(n)) for n in range(20)]
    for number in range(4):
        points = local_points(tmp_path, record.run_id, f"thread {number}")
        assert points == [(step, float(step)) for step in range(3000)]


def test_who_waits_for_the_programs_output_does_not_wait_for_the_sender(tmp_path):
    source = """
backends = [mlobs.backends.MLflow("http://127.0.0.1:9"), mlobs.backends.TensorBoard("board")]
tracker = mlobs.Tracker("pipes", store="store", backends=backends, finish_timeout_s=0)
with tracker.start_run() as run:
    run.log_metric("loss", 1.0)
print(time.time())
"""
    program = write(tmp_path, START + source)

    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=True,
        timeout=60,
    )

    waited_s = time.time() - float(done.stdout)
    run_id = only_run(tmp_path).run_id
    assert eventually(lambda: sender_of(tmp_path, run_id))  # it goes on trying
    assert waited_s < 1.0
    end_sender(tmp_path, run_id)


def test_a_forked_child_is_silent_about_the_parents_sender(tmp_path):
    """Python's development mode warns of what is left open; none of it is the child's."""
    source = """
run = tracker.start_run()
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
run.finish()
"""
    done = run(tmp_path, START + source, "tensorboard", PYTHONDEVMODE="1", MLOBS_FINISH_TIMEOUT_S="10")

    assert done.returncode == 0
    assert done.stderr == ""


def test_a_run_that_a_forked_child_opens_reaches_the_backend_too(tmp_path):
    source = """
with tracker.start_run("parent") as run:
    run.log_metric("loss", 1.0)
    child = os.fork()
    if child == 0:
        with tracker.start_run("child") as own:
            own.log_metric("loss", 2.0)
        os._exit(0)
    os.waitpid(child, 0)
    run.log_metric("loss", 3.0)
"""
    done = run(tmp_path, START + source, "tensorboard")

    assert (done.returncode, done.stderr) == (0, "")
    parent, child = Store(tmp_path / "store").runs()
    assert board_points(tmp_path, parent.run_id, "loss", "runs") == [(0, 1.0), (1, 3.0)]
    assert board_points(tmp_path, child.run_id, "loss", "runs") == [(0, 2.0)]


@pytest.mark.slow
def test_threads_that_all_fork_while_all_log_lose_nothing_and_never_hang(tmp_path):
    source = """
import multiprocessing

def log_and_fork(name):
    for step in range(2000):
        run.log_metric(name, step, step=step)
        mlobs.log_param(f"{name} {step % 10}", step % 10)
        if step % 200 == 0:
            child = os.fork()
            if child == 0:
                run.log_metric("forked", step, step=step)
                run.log_text(f"from a child {os.getpid()}", "text")
                with run.child("below a child") as below:
                    below.log_metric("x", 1.0)
                os._exit(0)
            children.append(child)

children = []
with tracker.start_run() as run:
    threads = [threading.Thread(target=log_and_fork, args=(f"thread {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = [os.waitpid(child, 0)[1] for child in children]
    print(len(codes), set(codes))
"""
    done = run(tmp_path, START + source, "tensorboard", timeout_s=120)

    assert (done.returncode, done.stdout) == (0, "40 {0}\n"), done.stderr
    outer, *below = [mlobs.load_run(one.run_id, store=one.store) for one in Store(tmp_path / "store").runs()]
    assert (outer.status, outer.damage) == ("FINISHED", ())
    assert len(below) == 40
    assert {(one.status, one.parent_run_id) for one in below} == {("FINISHED", outer.run_id)}
    assert len(local_points(tmp_path, outer.run_id, "forked")) == 40
    assert len(outer.artifacts) == 40
    assert len(outer.params) == 40
    for number in range(4):
        points = local_points(tmp_path, outer.run_id, f"thread {number}")
        assert points == [(step, float(step)) for step in range(2000)]


POOLS = """
def work(number):
    run = mlobs.current_run()
    if run is not None:
        run.log_metric("loss", float(number), step=number)
    return run is not None

def storm(run, stop):
    step = 0
    while not stop.is_set():
        run.log_metric("beside", step, step=step)
        step += 1
    return step

if __name__ == "__main__":
    with tracker.start_run() as run:
        stop = threading.Event()
        beside = threading.Thread(target=storm, args=(run, stop))
        beside.start()
        for _ in range(3):
            with multiprocessing.get_context(sys.argv[1]).Pool(4) as pool:
                print(set(pool.map(work, range(40))))
        stop.set()
        beside.join()
        assert run.is_open
"""


@pytest.mark.parametrize(("method", "has_run"), [("fork", True), ("spawn", False), ("forkserver", False)])
def test_pools_beside_a_thread_that_logs_disturb_nothing(tmp_path, method, has_run):
    """A worker of its own making has no run; it takes a handle to record into this one."""
    done = run(tmp_path, START + POOLS, method, timeout_s=120)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{{{has_run}}}\n" * 3
    record = only_run(tmp_path)
    assert (record.status, record.damage) == ("FINISHED", ())
    beside = local_points(tmp_path, record.run_id, "beside")
    assert beside == [(step, float(step)) for step in range(len(beside))]
    expected = sorted([(n, float(n)) for n in range(40)] * 3) if has_run else []
    assert sorted(local_points(tmp_path, record.run_id, "loss")) == expected


def test_a_pools_workers_end_when_they_are_told_to(tmp_path):
    """`Pool.terminate` sends SIGTERM, which a handler of Python's may see only after the wait for a job."""
    source = """
def work(handle):
    with handle.attach() as run:
        run.log_metric("loss", 1.0)
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    return handlers == (signal.SIG_DFL, signal.SIG_DFL)

if __name__ == "__main__":
    with tracker.start_run() as run:
        handle = run.handle()
        for _ in range(20):
            with multiprocessing.get_context("fork").Pool(3) as pool:
                assert all(pool.map(work, [handle] * 9))
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
"""
    done = run(tmp_path, START + source, timeout_s=120)

    assert (done.returncode, done.stderr) == (0, "")


STAND_IN = """
import multiprocessing

_worker_info = None

def get_worker_info():
    return _worker_info

def load(worker, data, number):
    global _worker_info
    _worker_info = number  # as torch.utils.data._utils.worker does, before it touches the data
    for item in range(10):
        data[item]

def DataLoader(data, workers, method):
    context = multiprocessing.get_context(method)
    started = [context.Process(target=load, args=(None, data, number)) for number in range(workers)]
    for worker in started:
        worker.start()
    for worker in started:
        worker.join()
    assert [worker.exitcode for worker in started] == [0] * workers
"""
LOADING = """
import torch.utils.data

class Data:
    def __init__(self, run, handle):
        self.run, self.handle = run, handle

    def __getitem__(self, item):
        mlobs.log_metric("item", item, step=item)
        if self.run is not None:
            self.run.log_metric("item", item, step=item)
            self.run.log_text("item", "text")
            self.run.child("below").finish()
        with mlobs.start_run("in a worker") as own:
            own.log_metric("item", item)
        if self.handle is not None and item == 3:
            with self.handle.attach() as run:
                run.log_metric("attached", item, step=item)

if __name__ == "__main__":
    with tracker.start_run("training") as run:
        method = sys.argv[1]
        handle = run.handle() if "attach" in sys.argv else None
        data = Data(run if method == "fork" else None, handle)
        torch.utils.data.DataLoader(data, 3, method)
        run.log_metric("loss", 1.0)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_a_data_loader_record_nothing(tmp_path, method):
    """A module in the place of PyTorch's, whose workers say that they are workers as PyTorch's do."""
    write_stand_in(tmp_path)

    done = run(tmp_path, START + LOADING, method, MLOBS_STORE="store")

    assert (done.returncode, done.stderr) == (0, "")
    record = only_run(tmp_path)
    assert (record.status, record.last_metrics, record.artifacts) == ("FINISHED", {"loss": 1.0}, ())
    folder = Store(tmp_path / "store").run(record.run_id)
    assert len(folder.journals()) == 1
    assert not (folder.path / "blobs").exists()


def test_a_worker_of_a_data_loader_records_what_it_attaches_to(tmp_path):
    write_stand_in(tmp_path)

    done = run(tmp_path, START + LOADING, "spawn", "attach", MLOBS_STORE="store")

    assert (done.returncode, done.stderr) == (0, "")
    assert only_run(tmp_path).last_metrics == {"loss": 1.0, "attached": 3.0}


def write_stand_in(folder):
    package = folder / "torch" / "utils"
    package.mkdir(parents=True)
    for place in (package.parent, package):
        write(place, "", "__init__.py")
    write(package, STAND_IN, "data.py")
