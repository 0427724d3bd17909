"""Threads, tasks and worker pools of one program: every point, in the run that it belongs to."""

import pytest
from programs import delivered, local_points, only_run, run, run_ids

import mlobs

START = """
import asyncio, concurrent.futures, contextvars, sys, threading
import mlobs
tracker = mlobs.Tracker("threads", store="store", backends=["tensorboard"])
"""


def records(folder):
    """The runs of the store by name."""
    found = [mlobs.load_run(run_id, store=folder / "store") for run_id in run_ids(folder)]
    return {one.name: one for one in found}


@pytest.mark.parametrize("call", ["run.log_metric", "mlobs.log_metric"])
def test_eight_threads_record_every_point_into_one_run(tmp_path, call):
    source = f"""
def log(number):
    for step in range(5000):
        {call}(f"own {{number}}", step, step=step)
        {call}("shared", number)  # counted by all together

with tracker.start_run() as run:
    threads = [threading.Thread(target=log, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""
    done = run(tmp_path, START + source, timeout_s=120)

    assert (done.returncode, done.stderr) == (0, "")
    record = only_run(tmp_path)
    assert record.damage == ()
    expected = [(step, float(step)) for step in range(5000)]
    for number in range(8):
        assert local_points(tmp_path, record.run_id, f"own {number}") == expected
    shared = local_points(tmp_path, record.run_id, "shared")
    assert sorted(step for step, _ in shared) == list(range(40_000))  # no number is given twice
    assert all(sum(value == number for _, value in shared) == 5000 for number in range(8))
    assert delivered(tmp_path, record.run_id, "tensorboard")


def test_threads_that_each_open_a_run_keep_them_apart(tmp_path):
    source = """
def train(number):
    with tracker.start_run(f"run {number}") as run:
        for step in range(500):
            mlobs.log_metric("loss", number, step=step)
            assert mlobs.current_run() is run

with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(train, range(24)))
"""
    done = run(tmp_path, START + source, timeout_s=120)

    assert (done.returncode, done.stderr) == (0, "")
    found = records(tmp_path)
    assert set(found) == {f"run {number}" for number in range(24)}
    for number in range(24):
        one = found[f"run {number}"]
        assert one.status == "FINISHED"
        assert local_points(tmp_path, one.run_id, "loss") == [(step, float(number)) for step in range(500)]


def test_tracked_coroutines_that_run_at_once_each_have_their_own_run(tmp_path):
    source = """
@tracker.track
async def train(number, *, run=None):
    for step in range(50):
        mlobs.log_metric("loss", number, step=step)
        await asyncio.sleep(60 if number == 10 else 0)
        assert mlobs.current_run() is run
    await asyncio.to_thread(mlobs.log_metric, "from a thread", number)
    if number == 3:
        raise ValueError("the fourth")
    return {"final": number}

async def all_of_them():
    results = await asyncio.gather(*(train(number) for number in range(10)), return_exceptions=True)
    assert [one for one in results if isinstance(one, ValueError)] == [results[3]]
    task = asyncio.create_task(train(10))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert mlobs.current_run() is None

asyncio.run(all_of_them())
"""
    done = run(tmp_path, START + source)

    assert (done.returncode, done.stderr) == (0, "")
    found = [mlobs.load_run(run_id, store=tmp_path / "store") for run_id in run_ids(tmp_path)]
    by_number = {one.params["number"]: one for one in found}
    assert sorted(by_number) == list(range(11))
    for number in range(10):
        one = by_number[number]
        last = {"loss": float(number), "from a thread": float(number)}
        assert one.last_metrics == (last if number == 3 else {**last, "final": float(number)})
        assert len(local_points(tmp_path, one.run_id, "loss")) == 50
    assert {number: one.status for number, one in by_number.items() if one.status != "FINISHED"} == {
        3: "FAILED",
        10: "KILLED",
    }


def test_tasks_of_one_run_record_into_it(tmp_path):
    source = """
async def work(number):
    for step in range(100):
        mlobs.log_metric(f"task {number}", step, step=step)
        await asyncio.sleep(0)

async def main():
    with tracker.start_run() as run:
        await asyncio.gather(*(work(number) for number in range(20)))
        loop = asyncio.get_running_loop()
        jobs = (loop.run_in_executor(None, mlobs.log_metric, f"pool {n}", n) for n in range(20))
        await asyncio.gather(*jobs)

asyncio.run(main())
"""
    done = run(tmp_path, START + source)

    assert (done.returncode, done.stderr) == (0, "")
    record = only_run(tmp_path)
    assert len(record.last_metrics) == 40
    for number in range(20):
        points = local_points(tmp_path, record.run_id, f"task {number}")
        assert points == [(step, float(step)) for step in range(100)]


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_jobs_of_joblib_record_into_the_run_that_they_are_handed(tmp_path, backend):
    pytest.importorskip("joblib")
    source = """
import joblib

def fit(handle, number):
    with handle.attach() as run:
        for step in range(50):
            run.log_metric(f"fold {number}", step, step=step)
    return number

if __name__ == "__main__":
    with tracker.start_run() as run:
        handle = run.handle()
        jobs = joblib.Parallel(n_jobs=3, backend=sys.argv[1])
        assert jobs(joblib.delayed(fit)(handle, number) for number in range(9)) == list(range(9))
        jobs(joblib.delayed(lambda: handle.attach().finish())() for _ in range(2 * (sys.argv[1] == "loky")))
"""
    done = run(tmp_path, START + source, backend, timeout_s=120)

    assert done.returncode == 0, done.stderr
    record = only_run(tmp_path)
    assert (record.status, record.damage) == ("FINISHED", ())
    for number in range(9):
        points = local_points(tmp_path, record.run_id, f"fold {number}")
        assert points == [(step, float(step)) for step in range(50)]
    assert delivered(tmp_path, record.run_id, "tensorboard")


def test_a_run_finished_in_one_thread_while_others_log_takes_what_came_before(tmp_path):
    source = """
import logging
logging.disable()
started = threading.Barrier(5)
counts = [0] * 4

def log(number):
    started.wait()
    while run.is_open:
        run.log_metric(f"thread {number}", counts[number], step=counts[number])
        counts[number] += 1

run = tracker.start_run()
threads = [threading.Thread(target=log, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
started.wait()
threading.Event().wait(0.2)
run.finish()
for thread in threads:
    thread.join()
print(*counts)
"""
    done = run(tmp_path, START + source)

    assert done.returncode == 0, done.stderr
    record = only_run(tmp_path)
    assert (record.status, record.damage) == ("FINISHED", ())
    for number, count in enumerate(map(int, done.stdout.split())):
        points = local_points(tmp_path, record.run_id, f"thread {number}")
        assert points == [(step, float(step)) for step in range(len(points))]
        assert count - 1 <= len(points) <= count  # the call that was under way may have come too late
        assert len(points) > 100
