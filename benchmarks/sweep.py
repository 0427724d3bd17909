"""Many processes start at once on a fresh MLflow SQLite database: what arrives, when, and at what cost.

The peer is MLflow's own client: each process gives it the same points, 1,000 at a time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median

from measuring import Ended, Process, Senders, heading, load, note, part, scratch, show, wait_for_all

METRICS = 10
BATCH = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4 processes of 20 steps")
    parser.add_argument("--part", nargs=3, metavar=("NAME", "STEPS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, steps, folder = options.part
        print(json.dumps(PARTS[name](int(steps), Path(folder))))
    elif options.quick:
        compare(processes=4, steps=20)
    else:
        compare(processes=16, steps=200)


def compare(*, processes: int, steps: int) -> None:
    heading(f"sweep: {processes} processes at once, {steps * METRICS:,} points each, a fresh MLflow database")
    expected = processes * steps * METRICS
    with scratch() as folder:
        ended, senders, all_s = start_all("tracked", processes, steps, folder)
        note(f"mlobs, MLflow named; {load()}")
        show_processes(ended, all_s, "until the last sender has ended: all is delivered, or will not be")
        if show_arrived(folder, processes, expected) < expected:
            show_sync(folder, processes, expected)
        show_memory(senders)
    with scratch() as folder:
        ended, _, all_s = start_all("client", processes, steps, folder)
        note(f"MlflowClient.log_batch in each process; {load()}")
        show_processes(ended, all_s, "until the last process has ended")
        show_arrived(folder, processes, expected, target=None)


def start_all(name: str, processes: int, steps: int, folder: Path) -> tuple[list[Ended], Senders, float]:
    """Start the processes at once; wait for them and their senders. The last item is seconds."""
    began = time.perf_counter()
    workers = [Process(part(__file__, name, steps, folder), cwd=folder) for _ in range(processes)]
    senders = wait_for_all(workers)
    return [worker.ended for worker in workers if worker.ended], senders, time.perf_counter() - began


def show_processes(ended: list[Ended], all_s: float, until: str) -> None:
    failed = [one for one in ended if one.code]
    show(f"  {until}", all_s, "s")
    show("  a training process, median", median(one.wall_s for one in ended), "s")
    show("  processes that failed", len(failed), "")
    if failed:
        note(f"    the first with: {failed[0].errors.strip().splitlines()[-1][:90]}")


def show_arrived(folder: Path, processes: int, expected: int, target: float | None = 0) -> int:
    """Count with MLflow's client, in a process of its own, and return the number of points."""
    try:
        found = Process(part(__file__, "count", 0, folder), cwd=folder).wait().answer
    except RuntimeError as error:
        note(f"  MLflow's client cannot read the database: {str(error).strip().splitlines()[-1][:90]}")
        return 0
    note(f"  MLflow holds {found['runs']} of {processes} runs, {found['points']:,} of {expected:,} points")
    show("  points missing", expected - found["points"], "", target)
    return int(found["points"])


def show_sync(folder: Path, processes: int, expected: int) -> None:
    began = time.perf_counter()
    command = [sys.executable, "-m", "mlobs", "sync", "--store", str(folder / "store")]
    wait_for_all([Process(command, cwd=folder)])
    show("  `mlobs sync` for the rest", time.perf_counter() - began, "s")
    show_arrived(folder, processes, expected)


def show_memory(senders: Senders) -> None:
    if not senders.peak_mb:
        note("  the senders' memory: not measured on this system")
        return
    show("  a sender's memory at its peak, median", median(senders.peak_mb.values()), "MB")
    show("  all senders at one moment, at most, a shared page counted once", senders.peak_of_all_mb, "MB")


def values(step: int) -> dict[str, float]:
    return {f"train/metric_{number}": step + number / 10 for number in range(METRICS)}


def uri(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


# The parts, each in a process of its own


def tracked(steps: int, folder: Path) -> dict[str, int]:
    import mlobs

    tracker = mlobs.Tracker("bench", store=folder / "store", backends=[mlobs.backends.MLflow(uri(folder))])
    with tracker.start_run() as run:
        for step in range(steps):
            run.log_metrics(values(step), step=step)
    return {}


def client(steps: int, folder: Path) -> dict[str, int]:
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    mlflow.set_tracking_uri(uri(folder))
    run_id = MlflowClient().create_run(mlflow.set_experiment("bench").experiment_id).info.run_id
    points: list[Metric] = []
    for step in range(steps):
        at = int(time.time() * 1000)
        points += [Metric(key, value, at, step) for key, value in values(step).items()]
        if len(points) >= BATCH:
            MlflowClient().log_batch(run_id, metrics=points)
            points = []
    MlflowClient().log_batch(run_id, metrics=points)
    MlflowClient().set_terminated(run_id)
    return {}


def count(_steps: int, folder: Path) -> dict[str, int]:
    from mlflow import MlflowClient

    client = MlflowClient(uri(folder))
    experiment = client.get_experiment_by_name("bench")
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    points = sum(len(client.get_metric_history(run.info.run_id, key)) for run in runs for key in values(0))
    return {"runs": len(runs), "points": points}


PARTS = {"tracked": tracked, "client": client, "count": count}

if __name__ == "__main__":
    main()
