"""Reading runs and metrics into pandas, beside MLflow's `search_runs` and `get_metric_history`.

The runs are the same: made by mlobs, and by MLflow's client in a SQLite file. A call is timed in a process
of its own: `first` with nothing kept from before, `again` with what the first call kept. MLflow's client is
asked for one metric of one run, which is all that `get_metric_history` gives; mlobs reads the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from measuring import Process, heading, load, note, part, scratch, show

PARAMS, METRICS, STEPS = 10, 3, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 runs, 20,000 points, once")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--part", nargs=3, metavar=("NAME", "COUNT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, count, folder = options.part
        print(json.dumps(PARTS[name](int(count), Path(folder))))
    elif options.quick:
        compare(runs=100, points=20_000, many=50_000, rounds=1)
    else:
        compare(runs=options.runs, points=1_000_000, many=10_000_000, rounds=3)


def compare(*, runs: int, points: int, many: int, rounds: int) -> None:
    heading(f"read: {runs:,} runs, {points:,} points; medians of {rounds} processes")
    with scratch() as folder:
        list_runs(runs, folder, rounds)
        read_points(points, folder, rounds)
        read_in_pieces(many, folder)


def list_runs(runs: int, folder: Path, rounds: int) -> None:
    run_part("make_runs", runs, folder)
    run_part("make_mlflow_runs", runs, folder)
    note(f"{runs:,} runs of {PARAMS} params and {METRICS} metrics, into a frame; {load()}")
    first, again = twice("list", runs, folder, rounds, folder / "runs/cache")
    peer = [run_part("mlflow_list", runs, folder) for _ in range(rounds)]
    show("  mlobs.runs, first", first, "s")
    show("  mlobs.runs, again", again, "s", 1.0)
    show("  mlobs.runs with a condition, again", middle("list_where", runs, folder, rounds), "s")
    show("  mlflow.search_runs", median(peer), "s")
    show("  mlobs.runs again / mlflow.search_runs", again / median(peer), "x")


def read_points(points: int, folder: Path, rounds: int) -> None:
    run_part("make_points", points, folder)
    run_part("make_mlflow_points", points, folder)
    note(f"{points:,} points of one metric of one run, into a frame; {load()}")
    first, again = twice("read", points, folder, rounds, folder / "points/cache")
    peer = [run_part("mlflow_read", points, folder) for _ in range(rounds)]
    show("  mlobs.metrics, first", first, "s", 3.0)
    show("  mlobs.metrics, again", again, "s", 0.7)
    show("  MlflowClient.get_metric_history and a frame", median(peer), "s")
    show("  mlobs.metrics first / MLflow", first / median(peer), "x")
    show("  mlobs.metrics again / MLflow", again / median(peer), "x")


def read_in_pieces(many: int, folder: Path) -> None:
    shutil.rmtree(folder / "points", ignore_errors=True)
    run_part("make_points", many, folder)
    note(f"{many:,} points of one run, in frames of 1,000,000; {load()}")
    for when in ("first", "again"):
        ended = Process(part(__file__, "pieces", many, folder)).wait()
        show(f"  mlobs.metric_frames, {when}", ended.answer["s"], "s")
        show(
            f"  most memory of the process above its start, {when}",
            ended.peak_mb - ended.answer["start_mb"],
            "MB",
        )


def twice(name: str, count: int, folder: Path, rounds: int, cache: Path) -> tuple[float, float]:
    first, again = [], []
    for _ in range(rounds):
        shutil.rmtree(cache, ignore_errors=True)
        first.append(run_part(name, count, folder))
        again.append(run_part(name, count, folder))
    return median(first), median(again)


def middle(name: str, count: int, folder: Path, rounds: int) -> float:
    return median(run_part(name, count, folder) for _ in range(rounds))


def run_part(name: str, count: int, folder: Path) -> float:
    return Process(part(__file__, name, count, folder)).wait().answer["s"]


# The parts, each in a process of its own


def make_runs(count: int, folder: Path) -> dict[str, float]:
    import mlobs

    began = perf_counter()
    tracker = mlobs.Tracker("bench", store=folder / "runs", backends=[], mode="offline", repro="off")
    for number in range(count):
        with tracker.start_run(f"run {number}", params=params(number)) as run:
            for step in range(STEPS):
                run.log_metrics(metrics(number, step), step=step)
    return {"s": perf_counter() - began}


def make_points(count: int, folder: Path) -> dict[str, float]:
    import mlobs

    began = perf_counter()
    tracker = mlobs.Tracker("bench", store=folder / "points", backends=[], mode="offline", repro="off")
    with tracker.start_run("long") as run:
        for step in range(count):
            run.log_metric("loss", 1 / (step + 1), step=step)
    return {"s": perf_counter() - began}


def make_mlflow_runs(count: int, folder: Path) -> dict[str, float]:
    from mlflow.entities import Metric, Param

    client, experiment = mlflow_client(folder / "runs.db")
    began = perf_counter()
    for number in range(count):
        run_id = client.create_run(experiment, run_name=f"run {number}").info.run_id
        values = [
            Metric(name, value, 1000 + step, step)
            for step in range(STEPS)
            for name, value in metrics(number, step).items()
        ]
        client.log_batch(run_id, values, [Param(name, str(value)) for name, value in params(number).items()])
        client.set_terminated(run_id)
    return {"s": perf_counter() - began}


def make_mlflow_points(count: int, folder: Path) -> dict[str, float]:
    from mlflow.entities import Metric

    client, experiment = mlflow_client(folder / "points.db")
    began = perf_counter()
    run_id = client.create_run(experiment).info.run_id
    for start in range(0, count, 1000):
        steps = range(start, min(count, start + 1000))
        client.log_batch(run_id, [Metric("loss", 1 / (step + 1), 1000 + step, step) for step in steps])
    client.set_terminated(run_id)
    return {"s": perf_counter() - began}


def mlflow_client(path: Path) -> tuple[Any, str]:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{path}")
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name("bench")
    return client, found.experiment_id if found else client.create_experiment("bench")


def params(number: int) -> dict[str, float]:
    return {f"param_{index}": number * index / 7 for index in range(PARAMS)}


def metrics(number: int, step: int) -> dict[str, float]:
    return {f"metric_{index}": number + step / 7 for index in range(METRICS)}


def list_part(count: int, folder: Path, **choice: object) -> dict[str, float]:
    import pandas as pd  # noqa: F401 - its import is not what is timed

    import mlobs

    began = perf_counter()
    frame = mlobs.runs(store=folder / "runs", **choice)
    taken = perf_counter() - began
    assert len(frame) == count, len(frame)
    return {"s": taken}


def list_where(count: int, folder: Path) -> dict[str, float]:
    return list_part(count, folder, where="params.param_1 >= 0 and metrics.metric_1.max > 0.5")


def read_part(count: int, folder: Path) -> dict[str, float]:
    import pandas as pd  # noqa: F401 - its import is not what is timed

    import mlobs

    began = perf_counter()
    frame = mlobs.metrics(store=folder / "points", keys="loss")
    taken = perf_counter() - began
    assert len(frame) == count, len(frame)
    return {"s": taken}


def pieces(count: int, folder: Path) -> dict[str, float]:
    import resource

    import pandas as pd

    import mlobs

    pd.DataFrame({"text": ["a"]})  # what is imported at the first frame is not what is measured
    start_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = perf_counter()
    assert sum(len(frame) for frame in mlobs.metric_frames(store=folder / "points")) == count
    return {"s": perf_counter() - began, "start_mb": start_mb}


def mlflow_list(count: int, folder: Path) -> dict[str, float]:
    import mlflow

    _, experiment = mlflow_client(folder / "runs.db")
    began = perf_counter()
    frame = mlflow.search_runs([experiment], max_results=count)
    taken = perf_counter() - began
    assert len(frame) == count, len(frame)
    return {"s": taken}


def mlflow_read(count: int, folder: Path) -> dict[str, float]:
    import pandas as pd

    client, experiment = mlflow_client(folder / "points.db")
    (run,) = client.search_runs([experiment])
    began = perf_counter()
    history = client.get_metric_history(run.info.run_id, "loss")
    frame = pd.DataFrame([(one.key, one.step, one.value, one.timestamp) for one in history])
    taken = perf_counter() - began
    assert len(frame) == count, len(frame)
    return {"s": taken}


PARTS = {
    "make_runs": make_runs,
    "make_points": make_points,
    "make_mlflow_runs": make_mlflow_runs,
    "make_mlflow_points": make_mlflow_points,
    "list": list_part,
    "list_where": list_where,
    "read": read_part,
    "pieces": pieces,
    "mlflow_list": mlflow_list,
    "mlflow_read": mlflow_read,
}

if __name__ == "__main__":
    sys.exit(main())
