"""Tracked coroutines and async generators wait for no backend: an event loop serves others meanwhile."""

from programs import delivered, only_run, run, run_ids
from servers import free_port

import mlobs

DEAD = """
import asyncio, time
import mlobs
backends = [mlobs.backends.MLflow("http://127.0.0.1:PORT")]
tracker = mlobs.Tracker("loop", store="store", backends=backends, finish_timeout_s=4)
longest_s = 0.0

async def heartbeat():
    global longest_s
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.01)
        longest_s = max(longest_s, time.monotonic() - began)

@tracker.track
async def train(number):
    await asyncio.sleep(0.01 * number)
    mlobs.log_metric("loss", float(number))
    if number == 3:
        raise ValueError("three")
    return number

@tracker.track
async def batches():
    for number in range(3):
        await asyncio.sleep(0.01)
        yield number

async def main():
    beating = asyncio.create_task(heartbeat())
    began = time.monotonic()
    found = await asyncio.gather(*(train(number) for number in range(10)), return_exceptions=True)
    found += [number async for number in batches()]
    print(time.monotonic() - began < 3, longest_s < 1.0, len(found), mlobs.current_run())
    beating.cancel()

asyncio.run(main())
"""


def test_a_dead_server_does_not_stop_the_loop_and_is_waited_for_at_the_end_of_the_program(tmp_path):
    done = run(tmp_path, DEAD.replace("PORT", str(free_port())), MLOBS_LINGER_S="0")

    assert (done.returncode, done.stdout.split()) == (0, ["True", "True", "13", "None"]), done.stderr
    assert sorted(mlobs.runs(store=tmp_path / "store")["status"]) == ["FAILED", *["FINISHED"] * 10]
    said = [line for line in done.stderr.splitlines() if "mlflow: 0 delivered" in line]
    assert len(said) == 11
    assert all(any(run_id in line for line in said) for run_id in run_ids(tmp_path))


LIVE = """
import asyncio
import mlobs
tracker = mlobs.Tracker("loop", store="store", backends=["tensorboard"], delivery="DELIVERY")

@tracker.track
async def train():
    mlobs.log_metric("loss", 0.5)

asyncio.run(train())
"""


def test_the_end_of_the_program_waits_for_what_its_coroutines_recorded(tmp_path):
    for delivery in ("process", "thread"):
        folder = tmp_path / delivery
        folder.mkdir()
        done = run(folder, LIVE.replace("DELIVERY", delivery))

        assert (done.returncode, done.stderr) == (0, "")
        assert delivered(folder, only_run(folder).run_id, "tensorboard")
