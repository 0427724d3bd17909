"""What one call costs the training loop, beside the bare limit and two other trackers.

The bare limit is what any Python code must pay to put a point where `kill -9` cannot reach it:
encode a point that is ready (msgspec), and copy it into a mapped file.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from time import perf_counter, perf_counter_ns
from typing import Any

import msgspec

import mlobs
from measuring import Process, heading, load, note, part, percentile, scratch, show, wait_for_all

KEY, VALUE = "train/loss", 0.25
TEN = {f"train/metric_{number}": number / 7 for number in range(10)}
ROUNDS = 5
MAPPED_BYTES = 1 << 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer calls")
    parser.add_argument("--part", nargs=3, metavar=("NAME", "CALLS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, calls, folder = options.part
        print(json.dumps(PARTS[name](int(calls), Path(folder))))
    else:
        compare(20_000 if not options.quick else 2_000)


def compare(calls: int) -> None:
    heading(f"hot_path: microseconds in the caller; best of {ROUNDS} rounds of {calls:,} calls")
    local = measure("local", calls)
    show_run("local store only", local)
    show_run("MLflow and TensorBoard named", measure("backends", calls))
    show_journal(measure("journal", calls))
    ours = local["log_metric"]
    for name, few in (("tensorboardX", calls // 10), ("MlflowClient", max(20, calls // 100))):
        peer = measure(name, few)
        note(f"{name}, {few:,} calls each timed; {load()}")
        for figure in ("mean", "p50", "p99"):
            show(f"  {figure}", peer[figure], "us")
        show("  mean / mean of mlobs (local store only)", peer["mean"] / ours["mean"], "x")
        show("  p50 / p50 of mlobs (local store only)", peer["p50"] / ours["p50"], "x")


def measure(name: str, calls: int) -> dict[str, Any]:
    """Run one part in a process of its own, whose sender ends with it, and wait for both."""
    with scratch() as folder:
        process = Process(part(__file__, name, calls, folder), cwd=folder, MLOBS_LINGER_S="0")
        wait_for_all([process])
        return process.wait().answer


def show_run(title: str, found: dict[str, Any]) -> None:
    one, ten = found["log_metric"], found["log_metrics"]
    note(f"{title}; {load()}")
    show("  bare limit: encode + copy into a mapped file, mean", found["limit"], "us")
    show("  log_metric, mean", one["mean"], "us", 1.5)
    show("  log_metric, mean / bare limit", one["mean"] / found["limit"], "x", 8)
    show("  timer around an empty call, p50 (contained in the next lines)", found["timer"]["p50"], "us")
    show("  log_metric, p50", one["p50"], "us")
    show("  log_metric, p99", one["p99"], "us", 8)
    show("  log_metric, p99.9", one["p99.9"], "us", 60)
    show("  timer around an empty call, p99.9", found["timer"]["p99.9"], "us")
    show("  log_metrics with 10 values, mean", ten["mean"], "us", 3)
    show("  log_metrics with 10 values, p99", ten["p99"], "us")
    show("  log_metrics with 10 values, p99.9", ten["p99.9"], "us", 60)


def show_journal(found: dict[str, Any]) -> None:
    note(f"the journal alone: make an event and append it; {load()}")
    show("  mapped file, mean", found["mapped"], "us")
    show("  write() per event (file systems that cannot be mapped safely), mean", found["written"], "us")
    show("  write() per event, p99.9", found["written p99.9"], "us")


# The parts, each in a process of its own


def local(calls: int, folder: Path) -> dict[str, Any]:
    return of_tracker(mlobs.Tracker("bench", store=folder / "store", backends=[]), calls, folder)


def backends(calls: int, folder: Path) -> dict[str, Any]:
    tracker = mlobs.Tracker(
        "bench",
        store=folder / "store",
        backends=[
            mlobs.backends.MLflow(f"sqlite:///{folder / 'mlflow.db'}"),
            mlobs.backends.TensorBoard(str(folder / "runs")),
        ],
        finish_timeout_s=0,  # what is delivered is not the subject here
    )
    return of_tracker(tracker, calls, folder)


def of_tracker(tracker: mlobs.Tracker, calls: int, folder: Path) -> dict[str, Any]:
    with tracker.start_run() as run:
        limits, ones, tens = [], [], []
        for _ in range(ROUNDS):
            limits.append(mean_of_limit(calls, folder))
            ones.append(mean_of_log_metric(run, calls))
            tens.append(mean_of_log_metrics(run, calls))
        timer = each_timed(lambda _step: None, calls * ROUNDS)
        one = each_timed(lambda step: run.log_metric(KEY, VALUE, step=step), calls * ROUNDS)
        ten = each_timed(lambda step: run.log_metrics(TEN, step=step), calls)
    return {
        "limit": min(limits),
        "timer": timer,
        "log_metric": {**one, "mean": min(ones)},
        "log_metrics": {**ten, "mean": min(tens)},
    }


def mean_of_limit(calls: int, folder: Path) -> float:
    point, encode = ("metrics", time.time(), 1, {KEY: VALUE}), msgspec.msgpack.Encoder().encode
    with (folder / "limit").open("w+b") as file:
        os.truncate(file.fileno(), MAPPED_BYTES)
        with mmap.mmap(file.fileno(), MAPPED_BYTES) as mapped:
            mapped.write(bytes(MAPPED_BYTES))  # its pages are there
            mapped.seek(0)
            started = perf_counter()
            for _step in range(calls):
                mapped.write(encode(point))
            return (perf_counter() - started) / calls * 1e6


def mean_of_log_metric(run: mlobs.Run, calls: int) -> float:
    started = perf_counter()
    for step in range(calls):
        run.log_metric(KEY, VALUE, step=step)
    return (perf_counter() - started) / calls * 1e6


def mean_of_log_metrics(run: mlobs.Run, calls: int) -> float:
    started = perf_counter()
    for step in range(calls):
        run.log_metrics(TEN, step=step)
    return (perf_counter() - started) / calls * 1e6


def each_timed(call: Callable[[int], object], calls: int) -> dict[str, float]:
    taken: list[float] = [0.0] * calls
    for step in range(calls):
        started = perf_counter_ns()
        call(step)
        taken[step] = (perf_counter_ns() - started) / 1e3
    percentiles = {f"p{percent:g}": percentile(taken, percent) for percent in (50, 99, 99.9)}
    return {"mean": mean(taken), **percentiles}


def journal(calls: int, folder: Path) -> dict[str, Any]:
    from mlobs.events import Metrics
    from mlobs.journal.writer import Writer

    found: dict[str, Any] = {}
    for name, mapped in (("mapped", True), ("written", False)):
        writer = Writer(folder, "bench", mapped=mapped)
        means = []
        for _ in range(ROUNDS):
            started = perf_counter()
            for step in range(calls):
                writer.append(Metrics(time.time(), step, {KEY: VALUE}))
            means.append((perf_counter() - started) / calls * 1e6)
        each = each_timed(lambda step: writer.append(Metrics(time.time(), step, {KEY: VALUE})), calls)  # noqa: B023
        found[name], found[f"{name} p99.9"] = min(means), each["p99.9"]
        writer.close()
    return found


def tensorboardx(calls: int, folder: Path) -> dict[str, Any]:
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder / "runs")) as writer:
        return each_timed(lambda step: writer.add_scalar(KEY, VALUE, step), calls)


def mlflow_client(calls: int, folder: Path) -> dict[str, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    run_id = client.create_run(client.create_experiment("bench")).info.run_id
    return each_timed(lambda step: client.log_metric(run_id, KEY, VALUE, step=step), calls)


PARTS: dict[str, Callable[[int, Path], dict[str, Any]]] = {
    "local": local,
    "backends": backends,
    "journal": journal,
    "tensorboardX": tensorboardx,
    "MlflowClient": mlflow_client,
}

if __name__ == "__main__":
    main()
