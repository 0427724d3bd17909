"""100,000 points from one tracker to the next: imported from event files, MLflow and CSV, and replayed.

The peer is the vendor's own reader alone: what it takes to get the points out, before anything is written.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

from measuring import Process, heading, load, note, part, scratch, show

KEYS = [f"train/metric_{number}" for number in range(10)]
START = 1_700_000_000
SOURCES = ("tensorboard", "mlflow", "csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 points, once")
    parser.add_argument("--part", nargs=3, metavar=("NAME", "POINTS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, points, folder = options.part
        print(json.dumps(PARTS[name](int(points), Path(folder))))
    elif options.quick:
        compare(points=2_000, rounds=1)
    else:
        compare(points=100_000, rounds=3)


def compare(*, points: int, rounds: int) -> None:
    heading(f"moving: {points:,} points in one run, 10 metrics; medians of {rounds} processes")
    with scratch() as folder:
        for source in SOURCES:
            run_part(f"write {source}", points, folder)
        note(f"seconds of the calls alone, imports of the vendors included; {load()}")
        for source in SOURCES:
            measure(source, points, folder, rounds)


def measure(source: str, points: int, folder: Path, rounds: int) -> None:
    peers = [run_part(f"read {source}", points, folder)["s"] for _ in range(rounds)]
    firsts, agains = [], []
    for number in range(rounds):
        place = folder / f"{source}-{number}"
        place.mkdir()
        for times in (firsts, agains):
            done = run_part(f"import {source}", points, place)
            assert done["wrong"] == 0, done
            times.append(done["s"])
    replayed = run_part("replay", points, folder / f"{source}-0")
    show(f"  {source}: import", median(firsts), "s")
    show(f"  {source}: import again, nothing new", median(agains), "s")
    show(f"  {source}: the vendor's reader alone", median(peers), "s")
    show(f"  {source}: import / the vendor's reader", median(firsts) / median(peers), "x")
    show(f"  {source}: replay to a second MLflow (SQLite)", replayed["s"], "s")


def run_part(name: str, points: int, folder: Path) -> dict[str, float]:
    return Process(part(__file__, name, points, folder)).wait().answer


def value(point: int) -> float:
    return point / 8  # exact as a 32-bit float up to 100,000


def rows(points: int) -> Iterator[tuple[int, dict[str, float]]]:
    for step in range(points // len(KEYS)):
        yield step, {key: value(step * len(KEYS) + index) for index, key in enumerate(KEYS)}


# The parts, each in a process of its own


def write_tensorboard(points: int, folder: Path) -> dict[str, float]:
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder / "logs" / "run")) as writer:
        for step, values in rows(points):
            for key, one in values.items():
                writer.add_scalar(key, one, step, walltime=START + step)
    return {}


def write_mlflow(points: int, folder: Path) -> dict[str, float]:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(f"sqlite:///{folder}/vendor.db")
    experiment = client.create_experiment("vendor", (folder / "artifacts").as_uri())
    run = client.create_run(experiment, START * 1000, run_name="run").info.run_id
    batch: list[Metric] = []
    for step, values in rows(points):
        batch += [Metric(key, one, (START + step) * 1000, step) for key, one in values.items()]
        if len(batch) == 1000:
            client.log_batch(run, batch)
            batch = []
    client.log_batch(run, batch)
    client.set_terminated(run)
    return {}


def write_csv(points: int, folder: Path) -> dict[str, float]:
    with (folder / "run.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "step", "value", "at"])
        for step, values in rows(points):
            writer.writerows([key, step, repr(one), START + step] for key, one in values.items())
    return {}


def read_tensorboard(points: int, folder: Path) -> dict[str, float]:
    started = perf_counter()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loaded = EventAccumulator(str(folder / "logs" / "run"), size_guidance={"scalars": 0})
    loaded.Reload()
    found = sum(len(loaded.Scalars(key)) for key in KEYS)
    return {"s": perf_counter() - started, "wrong": found - points}


def read_mlflow(points: int, folder: Path) -> dict[str, float]:
    started = perf_counter()
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/vendor.db")
    experiment = client.get_experiment_by_name("vendor")
    (run,) = client.search_runs([experiment.experiment_id])
    found = sum(len(client.get_metric_history(run.info.run_id, key)) for key in KEYS)
    return {"s": perf_counter() - started, "wrong": found - points}


def read_csv(points: int, folder: Path) -> dict[str, float]:
    import pandas as pd

    started = perf_counter()
    found = len(pd.read_csv(folder / "run.csv"))
    return {"s": perf_counter() - started, "wrong": found - points}


def import_from(source: str, points: int, folder: Path) -> dict[str, float]:
    import mlobs

    locations = {"tensorboard": "logs", "mlflow": "vendor.db", "csv": "run.csv"}
    started = perf_counter()
    mlobs.import_runs(source, str(folder.parent / locations[source]), store=folder / "store")
    seconds = perf_counter() - started
    frame = mlobs.metrics(store=folder / "store")
    expected = sum(value(point) for point in range(points))
    return {"s": seconds, "wrong": abs(len(frame) - points) + abs(frame["value"].sum() - expected)}


def replay(points: int, folder: Path) -> dict[str, float]:
    import mlobs

    del points
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    second = mlobs.backends.MLflow(f"sqlite:///{folder}/second.db", artifact_location=str(folder / "second"))
    started = perf_counter()
    (done,) = mlobs.replay_runs(None, second, store=folder / "store")
    assert done.is_settled, done
    return {"s": perf_counter() - started}


PARTS = {
    "write tensorboard": write_tensorboard,
    "write mlflow": write_mlflow,
    "write csv": write_csv,
    "read tensorboard": read_tensorboard,
    "read mlflow": read_mlflow,
    "read csv": read_csv,
    "import tensorboard": lambda points, folder: import_from("tensorboard", points, folder),
    "import mlflow": lambda points, folder: import_from("mlflow", points, folder),
    "import csv": lambda points, folder: import_from("csv", points, folder),
    "replay": replay,
}

if __name__ == "__main__":
    main()
