"""What a report costs: seconds to write, size, and what a browser needs to paint and draw it."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
from pathlib import Path
from time import perf_counter

import numpy as np

import mlobs
from measuring import Process, heading, note, part, scratch, show

WAIT_S = 60.0
DRAW_JS = """
const done = arguments[arguments.length - 1], begun = performance.now();
const slider = document.getElementById("smooth");
slider.value = 0.9;
slider.dispatchEvent(new Event("input", { bubbles: true }));
requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun))));
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the points")
    parser.add_argument(
        "--part", nargs=4, metavar=("RUNS", "METRICS", "POINTS", "STORE"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.part:
        runs, metrics, points, store = options.part
        record(Path(store), int(runs), int(metrics), int(points))
        return
    share = 10 if options.quick else 1
    measure(20, 10, 10_000 // share, most_mb=5.0)
    measure(20, 1, 100_000 // share, most_mb=5.0)
    measure(50, 10, 1_000 // share, most_mb=5.0)


def record(store: Path, runs: int, metrics: int, points: int) -> None:
    tracker = mlobs.Tracker("report", store=store, mode="offline")
    rng = np.random.default_rng(0)
    for number in range(runs):
        run = tracker.start_run(f"run {number}", params={"lr": 0.1 / (number + 1), "layers": number % 5})
        noise = rng.normal(size=(points, metrics)).cumsum(axis=0)
        for step in range(points):
            run.log_metrics({f"metric {at}": noise[step, at] for at in range(metrics)}, step=step)
        run.finish()
    print(json.dumps({}))


def measure(runs: int, metrics: int, points: int, *, most_mb: float) -> None:
    heading(f"report: {runs} runs of {metrics} metrics and {points:,} points")
    with scratch() as folder:
        Process(part(__file__, runs, metrics, points, folder / "store"), MLOBS_REPRO="off").wait()
        begun = perf_counter()
        path = mlobs.report(store=folder / "store", path=folder / "report.html")
        show("write it, reading the journals included", perf_counter() - begun, "s")
        show("size", path.stat().st_size / 1e6, "MB", most_mb)
        if importlib.util.find_spec("selenium") is None or shutil.which("chromium") is None:
            note("no browser: install chromium, chromium-driver and selenium to measure the page")
            return
        browse(path)


def browse(path: Path) -> None:
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.wait import WebDriverWait

    options = ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1280,900"):
        options.add_argument(argument)
    options.binary_location = shutil.which("chromium") or ""
    with Chrome(options=options, service=Service(shutil.which("chromedriver"))) as browser:
        browser.get(f"{path.as_uri()}#curves")
        ready = "const c = document.querySelector('#charts [data-drawn]'); return c && performance.now();"
        drawn_ms = WebDriverWait(browser, WAIT_S, 0.02).until(lambda one: one.execute_script(ready))
        paint = browser.execute_script(
            "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
        )
        show("first contentful paint", paint / 1000, "s", 2.0)
        show("first chart drawn", drawn_ms / 1000, "s")
        show("smooth what is in view", browser.execute_async_script(DRAW_JS) / 1000, "s")


if __name__ == "__main__":
    main()
