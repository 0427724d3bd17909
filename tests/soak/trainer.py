"""A training program of the soak: it logs, counts what it has logged, and ends as it was told.

    trainer.py URI PLAN

PLAN is JSON: the name, the steps, the pace in seconds, what it does besides, how it ends and at which step.
"""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from counting import Count

import mlobs

ENDINGS = {
    "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "SIGINT": lambda: os.kill(os.getpid(), signal.SIGINT),
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "os._exit": lambda: os._exit(0),
    "sys.exit(3)": lambda: sys.exit(3),
    "abort": os.abort,
}


def log(run, writer, steps, pace_s, end_at=-1, ending=""):
    """Log a metric of this writer's own; the count says how many calls have returned."""
    count = Count(Path("counts") / f"{run.id}.{writer}")
    for step in range(steps):
        try:
            run.log_metric(writer, step / 7, step=step)
        except mlobs.UsageError:
            return  # another thread has ended the run: this call recorded nothing, and says so
        count.set(step + 1)
        if step == end_at:
            if ending == "exception":
                raise ValueError("as planned")
            ENDINGS[ending]()
        time.sleep(pace_s)


def in_process(handle, writer, steps, pace_s):
    with handle.attach() as run:
        log(run, writer, steps, pace_s)


def main():
    uri, plan = sys.argv[1], json.loads(sys.argv[2])
    backends = [mlobs.backends.MLflow(uri), mlobs.backends.TensorBoard("board")]
    tracker = mlobs.Tracker("soak", backends=backends, store="store", on_error="raise", finish_timeout_s=2)
    with tracker.start_run(plan["name"], params={"plan": plan["kind"], "steps": plan["steps"]}) as run:
        run.log_text("note", plan["name"] * 50_000)
        kind, steps, pace_s = plan["kind"], plan["steps"], plan["pace_s"]
        helpers = []
        if kind == "threads":
            helpers = [threading.Thread(target=log, args=(run, f"t{n}", steps, pace_s)) for n in range(3)]
        elif kind == "forks":
            context = multiprocessing.get_context("fork")
            helpers = [context.Process(target=log, args=(run, f"f{n}", steps, pace_s)) for n in range(2)]
        elif kind == "spawns":
            context = multiprocessing.get_context("spawn")
            handle = run.handle()
            work = [(handle, f"s{n}", steps, pace_s) for n in range(2)]
            helpers = [context.Process(target=in_process, args=one) for one in work]
        elif kind == "children":
            for number in range(2):
                with run.child(f"fold-{number}") as child:
                    log(child, "fold", steps // 4, pace_s)
        for one in helpers:
            one.daemon = True
            one.start()
        log(run, "main", steps, pace_s, plan["end_at"], plan["ending"])
        for one in helpers:
            one.join()


if __name__ == "__main__":
    main()
