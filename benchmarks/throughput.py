"""How long a whole process takes to get its points to MLflow, beside a process that uses MLflow's client.

Each process starts with no database; it imports, creates, logs, delivers and ends. The other one
calls `MlflowClient.log_batch` with 1,000 points at a time, the most that it takes.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from measuring import (
    Others,
    Process,
    heading,
    load,
    note,
    part,
    resident_mb,
    scratch,
    show,
    spread,
    wait_for_all,
)

METRICS = 10
BATCH = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of 1,000 steps")
    parser.add_argument("--part", nargs=3, metavar=("NAME", "STEPS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, steps, folder = options.part
        print(json.dumps(PARTS[name](int(steps), Path(folder))))
    elif options.quick:
        compare(rounds=1, steps=1_000)
    else:
        compare(rounds=5, steps=10_000)


def compare(*, rounds: int, steps: int) -> None:
    heading(f"throughput: {steps * METRICS:,} points, whole processes, {rounds} interleaved rounds")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in PARTS}
    for number in range(rounds):
        for name in PARTS if number % 2 == 0 else reversed(PARTS):
            found[name].append(measure(name, steps))
    peer = [one["wall_s"] for one in found["client"]]
    note(load())
    show("MlflowClient.log_batch, process, median", median(peer), "s")
    show("  points a second", steps * METRICS / median(peer), "/s")
    show("  CPU", median(one["cpu_s"] for one in found["client"]), "s")
    show("  cores that others used meanwhile", median(one["others"] for one in found["client"]), "core")
    note(f"  {spread(peer)}")
    for name, title, target in (
        ("mlflow", "mlobs, MLflow named", 1.15),
        ("both", "mlobs, MLflow and TensorBoard named", 1.5),
    ):
        show_mlobs(title, target, found[name], peer)


def show_mlobs(title: str, target: float, ours: list[dict[str, Any]], peer: list[float]) -> None:
    walls = [one["wall_s"] for one in ours]
    show(f"{title}, process, median", median(walls), "s")
    show("  of that: the calls", median(one["calls_s"] for one in ours) * 1e3, "ms")
    show("  CPU of the process and its sender", median(one["cpu_s"] for one in ours), "s")
    ratios = [mine / theirs for mine, theirs in zip(walls, peer, strict=True)]
    show("  against MlflowClient.log_batch, median of the pairs", median(ratios), "x", target)
    note(f"  the pairs: {' '.join(f'{ratio:.3f}' for ratio in sorted(ratios))}")
    show("  cores that others used meanwhile", median(one["others"] for one in ours), "core")
    growth_mb = max(one["growth_mb"] for one in ours)
    show("  growth of the training process's memory, largest", growth_mb, "MB", 20)
    show("  the sender's memory at its peak", max(one["sender_mb"] for one in ours), "MB")


def measure(name: str, steps: int) -> dict[str, Any]:
    """Run one whole process, make sure that MLflow holds every point, and return its figures."""
    others = Others()
    with scratch() as folder:
        process = Process(part(__file__, name, steps, folder), cwd=folder)
        senders = wait_for_all([process])
        ended = process.wait()
        with closing(sqlite3.connect(folder / "mlflow.db")) as database:
            (points,) = database.execute("SELECT count(*) FROM metrics").fetchone()
    if points != steps * METRICS:
        note(f"!! {name}: MLflow holds {points:,} of {steps * METRICS:,} points; {ended.errors}")
    sender_mb = max(senders.peak_mb.values(), default=0.0)
    cpu_s = ended.cpu_s + sum(senders.cpu_s.values())
    figures = {"wall_s": ended.wall_s, "cpu_s": cpu_s, "sender_mb": sender_mb, "others": others.cores(cpu_s)}
    return {**figures, **ended.answer}


def values(step: int) -> dict[str, float]:
    return {f"train/metric_{number}": step + number / 10 for number in range(METRICS)}


# The parts, each a whole process


def client(steps: int, folder: Path) -> dict[str, float]:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    mlflow = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    run_id = mlflow.create_run(mlflow.create_experiment("bench")).info.run_id
    points: list[Metric] = []
    for step in range(steps):
        at = int(time.time() * 1000)
        points += [Metric(key, value, at, step) for key, value in values(step).items()]
        if len(points) >= BATCH:
            mlflow.log_batch(run_id, metrics=points)
            points = []
    mlflow.log_batch(run_id, metrics=points)
    mlflow.set_terminated(run_id)
    return {}


def mlflow(steps: int, folder: Path) -> dict[str, float]:
    return log(steps, folder, with_tensorboard=False)


def both(steps: int, folder: Path) -> dict[str, float]:
    return log(steps, folder, with_tensorboard=True)


def log(steps: int, folder: Path, *, with_tensorboard: bool) -> dict[str, float]:
    import mlobs

    backends: list[Any] = [mlobs.backends.MLflow(f"sqlite:///{folder / 'mlflow.db'}")]
    if with_tensorboard:
        backends.append(mlobs.backends.TensorBoard(str(folder / "runs")))
    tracker = mlobs.Tracker("bench", store=folder / "store", backends=backends, finish_timeout_s=600)
    with tracker.start_run() as run:
        before_mb, began = resident_mb(), time.perf_counter()
        for step in range(steps):
            run.log_metrics(values(step), step=step)
        calls_s = time.perf_counter() - began
        largest_mb = resident_mb()
    return {"calls_s": calls_s, "growth_mb": max(largest_mb, resident_mb()) - before_mb}


PARTS = {"client": client, "mlflow": mlflow, "both": both}

if __name__ == "__main__":
    main()
