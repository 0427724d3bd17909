"""One long run: recorded a point a call, and read back into pandas.

The peer for reading is what a CSV logger's user does: `pandas.read_csv` of the same points.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from time import perf_counter

from measuring import Process, heading, load, note, part, resident_mb, scratch, show

KEYS = [f"train/metric_{number}" for number in range(10)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20,000 points, read once")
    parser.add_argument("--part", nargs=3, metavar=("NAME", "POINTS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, points, folder = options.part
        print(json.dumps(PARTS[name](int(points), Path(folder))))
    elif options.quick:
        compare(points=20_000, rounds=1)
    else:
        compare(points=1_000_000, rounds=5)


def compare(*, points: int, rounds: int) -> None:
    heading(f"read_back: {points:,} points in one run; reading: medians of {rounds} processes")
    with scratch() as folder:
        recorded = run_part("record", points, folder)
        journal = max((folder / "store" / "runs").glob("*/*.journal"), key=lambda path: path.stat().st_size)
        note(f"one log_metric call a point, no backend named; {load()}")
        show("  recorded in", recorded["s"], "s")
        show("  on the disk, per point", journal.stat().st_size / points, "B")
        show("  growth of the process's memory", recorded["growth_mb"], "MB")
        found = [(run_part("read", points, folder), run_part("csv", points, folder)) for _ in range(rounds)]
    note(f"read into a frame, the import of pandas not counted; {load()}")
    show("  points missing or changed", max(ours["wrong"] for ours, _ in found), "", 0)
    show("  mlobs.metrics, median", median(ours["s"] for ours, _ in found), "s", 3)
    show("  mlobs.metrics, slowest", max(ours["s"] for ours, _ in found), "s")
    show("  pandas.read_csv of the same points, median", median(peer["s"] for _, peer in found), "s")
    show("  mlobs.metrics / pandas.read_csv", median(ours["s"] / peer["s"] for ours, peer in found), "x")


def run_part(name: str, points: int, folder: Path) -> dict[str, float]:
    return Process(part(__file__, name, points, folder)).wait().answer


def value(point: int) -> float:
    return point / 7


# The parts, each in a process of its own


def record(points: int, folder: Path) -> dict[str, float]:
    import mlobs

    with mlobs.Tracker("bench", store=folder / "store", backends=[]).start_run() as run:
        before_mb, began = resident_mb(), perf_counter()
        for point in range(points):
            run.log_metric(KEYS[point % 10], value(point), step=point // 10)
        record_s, after_mb = perf_counter() - began, resident_mb()
    mlobs.metrics(store=folder / "store").to_csv(folder / "points.csv", index=False)
    return {"s": record_s, "growth_mb": after_mb - before_mb}


def read(points: int, folder: Path) -> dict[str, float]:
    import pandas as pd  # noqa: F401 - its import is not what is timed

    import mlobs

    began = perf_counter()
    frame = mlobs.metrics(store=folder / "store")
    read_s = perf_counter() - began
    read_back = zip(frame["key"].astype(str), frame["step"], frame["value"], strict=True)
    recorded = {(KEYS[point % 10], point // 10): value(point) for point in range(points)}
    right = sum(recorded.pop((key, step), None) == number for key, step, number in read_back)
    return {"s": read_s, "wrong": max(points, len(frame)) - right}


def csv(_points: int, folder: Path) -> dict[str, float]:
    import pandas as pd

    began = perf_counter()
    frame = pd.read_csv(folder / "points.csv", dtype={"run_id": "category", "key": "category"})
    return {"s": perf_counter() - began, "points": len(frame)}


PARTS = {"record": record, "read": read, "csv": csv}

if __name__ == "__main__":
    main()
