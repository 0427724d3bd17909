"""A store of 100,000 runs: what starting, listing, finding, showing and syncing cost there."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from time import perf_counter

import mlobs
from measuring import Process, heading, note, part, scratch, show
from mlobs.events import Metrics, Params, RunFinished, RunStarted
from mlobs.journal.process import this_process
from mlobs.journal.store import Store, new_run_id
from mlobs.journal.writer import Writer

REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 runs")
    parser.add_argument("--part", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps({"start_ms": starts(Path(options.part[1]))}))
    else:
        compare(1_000 if options.quick else 100_000)


def compare(runs: int) -> None:
    heading(f"many_runs: {runs:,} finished runs in one store")
    with scratch() as folder:
        store = folder / "store"
        began = perf_counter()
        ids = fill(store, runs)
        made_s = perf_counter() - began
        note(f"made in {made_s:.0f} s, {made_s / runs * 1e3:.2f} ms each")
        started = [started_in(store) for _ in range(REPEATS)]
        show("start_run and finish, no backend, median of 20 calls", median(started), "ms")
        command("mlobs runs: the newest 50", store, "runs")
        command("mlobs show latest", store, "show", "latest")
        command("mlobs show, by the beginning of an id", store, "show", ids[runs // 2][:-4])
        began = perf_counter()
        frame = mlobs.runs(store=store)
        show(f"mlobs.runs(): a frame of {len(frame):,} rows", perf_counter() - began, "s", 60.0)
        command("mlobs sync: nothing to do", store, "sync")


def fill(store: Path, runs: int) -> list[str]:
    """Record runs that have ended, a second apart, with the journal's own writer."""
    place = Store(store)
    place.create()
    process, ids, at = this_process(), [], time.time() - runs
    for number in range(runs):
        run_id = new_run_id(at + number)
        writer = Writer(place.new_run(run_id).path, run_id, is_opener=True, mapped=False)
        writer.append(RunStarted(at + number, run_id, "many", f"run-{number}", process))
        writer.append(Params(at + number, {"lr": 0.1, "depth": number % 7}))
        writer.append(Metrics(at + number, 0, {"loss": 1.0 / (number + 1)}))
        writer.append(RunFinished(at + number + 0.5, "FINISHED"))
        writer.close()
        ids.append(run_id)
    return ids


def command(what: str, store: Path, *arguments: str) -> None:
    """Time a command as a user types it."""
    taken = []
    for _ in range(REPEATS):
        began = perf_counter()
        line = [sys.executable, "-m", "mlobs", *arguments, "--store", str(store)]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        taken.append(perf_counter() - began)
    show(what, median(taken), "s")


def started_in(store: Path) -> float:
    """Time runs that a fresh process starts, in ms."""
    return float(Process(part(__file__, "starts", store)).wait().answer["start_ms"])


def starts(store: Path) -> float:
    tracker = mlobs.Tracker("many", store=store)
    taken = []
    for _ in range(20):
        began = perf_counter()
        tracker.start_run().finish()
        taken.append(perf_counter() - began)
    return median(taken) * 1e3


if __name__ == "__main__":
    main()
