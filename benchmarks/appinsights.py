"""How fast a lane delivers to Application Insights, what a point weighs, and what the caller pays.

The service is the strict loopback one of the tests, in a process of its own; each transport delivers
the same recorded run. The caller's cost is that of `log_metric` in a process that names the backend,
beside one that names none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from measuring import Process, heading, load, note, part, scratch, show, spread

SERVICE = Path(__file__).parents[1] / "tests" / "contract" / "appinsights_service.py"
TRANSPORTS = ("opencensus", "azure-monitor")
METRICS = 10
TARGET = 8_000  # points a second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of 1,000 steps")
    parser.add_argument("--part", nargs=4, metavar=("NAME", "STEPS", "FOLDER", "HOW"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, steps, folder, how = options.part
        print(json.dumps(PARTS[name](int(steps), Path(folder), how)))
    elif options.quick:
        lanes(rounds=1, steps=1_000)
        callers(rounds=1, calls=2_000)
    else:
        lanes(rounds=5, steps=10_000)
        callers(rounds=5, calls=20_000)


def lanes(*, rounds: int, steps: int) -> None:
    points = steps * METRICS
    heading(f"Application Insights: a lane with {points:,} points, {rounds} interleaved rounds")
    rates: dict[str, list[float]] = {name: [] for name in TRANSPORTS}
    sizes: dict[str, float] = {}
    for number in range(rounds):
        for name in TRANSPORTS if number % 2 == 0 else reversed(TRANSPORTS):
            done, held = delivered(name, steps)
            rates[name].append(points / done["lane_s"])
            sizes[name] = held["bytes"] / points
            if held["customMetrics"] != points:
                note(f"!! {name}: the service holds {held['customMetrics']:,} of {points:,} points")
    note(load())
    for name, found in rates.items():
        met = "met" if median(found) >= TARGET else "MISSED"
        show(f"{name}: points a second, median (target >= {TARGET:,}: {met})", median(found), "/s")
        note(f"  {spread(found)}")
        show("  bytes a point on the wire", sizes[name], "B")
    show("uncompressed, which is what is billed, a million points", sizes["opencensus"], "MB")


def delivered(transport: str, steps: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Record a run, deliver it in a process of its own; return the figures and what the service holds."""
    with scratch() as folder:
        service = subprocess.Popen(
            [sys.executable, SERVICE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert service.stdout is not None
            (folder / "connection").write_text(service.stdout.readline().strip(), encoding="utf-8")
            done = Process(part(__file__, "lane", steps, folder, transport), cwd=folder).wait().answer
            held, _ = service.communicate("", timeout=60)
        finally:
            service.kill()
            service.wait()
    return done, json.loads(held.splitlines()[-1])


def callers(*, rounds: int, calls: int) -> None:
    heading(f"Application Insights: the caller's cost of {calls:,} log_metric, {rounds} interleaved rounds")
    found: dict[str, list[float]] = {"none": [], "appinsights": []}
    for number in range(rounds):
        for how in found if number % 2 == 0 else reversed(found):
            with scratch() as folder:
                process = Process(part(__file__, "caller", calls, folder, how), cwd=folder)
                found[how].append(process.wait().answer["mean_us"])
    show("log_metric without a backend, mean, best round", min(found["none"]), "µs")
    show("log_metric with Application Insights named, mean, best round", min(found["appinsights"]), "µs")
    show("  the one against the other", min(found["appinsights"]) / min(found["none"]), "x", 1.5)


# The parts, each a whole process


def lane(steps: int, folder: Path, transport: str) -> dict[str, float]:
    import mlobs
    from mlobs.journal.store import Store
    from mlobs.sender.foreground import sync

    text = (folder / "connection").read_text(encoding="utf-8")
    backend: Any = mlobs.backends.AppInsights(text, transport)  # type: ignore[arg-type]
    tracker = mlobs.Tracker("bench", store=folder / "store", backends=[backend], mode="offline")
    with tracker.start_run() as run:
        for step in range(steps):
            run.log_metrics({f"train/metric_{n}": step + n / 10 for n in range(METRICS)}, step=step)
    options = {"appinsights": {"connection_string": text}}
    began = time.perf_counter()
    (done,) = sync([Store(folder / "store").find(run.id)], options=options)
    assert done.is_settled, done
    return {"lane_s": time.perf_counter() - began}


def caller(calls: int, folder: Path, how: str) -> dict[str, float]:
    import mlobs

    key = "11111111-2222-3333-4444-555555555555"  # nobody listens at port 9: only the caller is measured
    address = f"InstrumentationKey={key};IngestionEndpoint=http://127.0.0.1:9"
    backends: list[Any] = [mlobs.backends.AppInsights(address)] if how == "appinsights" else []
    tracker = mlobs.Tracker("bench", store=folder / "store", backends=backends, finish_timeout_s=0.1)
    with tracker.start_run() as run:
        began = time.perf_counter()
        for step in range(calls):
            run.log_metric("loss", 0.5, step=step)
        spent_s = time.perf_counter() - began
    return {"mean_us": spent_s / calls * 1e6}


PARTS = {"lane": lane, "caller": caller}

if __name__ == "__main__":
    main()
