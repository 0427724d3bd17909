"""What a program pays before its first step: the import, the start of a run, an empty run."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

from measuring import Ended, Process, heading, load, note, part, scratch, show, wait_for_all

STATEMENTS = {
    "bare": "pass",
    "import mlobs": "import mlobs",
    "first use": "import mlobs; mlobs.Tracker; mlobs.backends.MLflow; mlobs.backends.TensorBoard",
    "tensorboardX": "import tensorboardX",
}
EMPTY_RUN = "import mlobs\nwith mlobs.start_run(): pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer processes")
    parser.add_argument("--part", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(start(Path(options.part[1]))))
    else:
        compare(3 if options.quick else 15)


def compare(processes: int) -> None:
    heading(f"start_up: medians of {processes} processes each, interleaved")
    show_imports(processes)
    show_start(processes)
    show_empty_run(processes)


def show_imports(processes: int) -> None:
    cpu_ms: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for statement in STATEMENTS.values():
        Process([sys.executable, "-c", statement]).wait()  # compiles what is not yet compiled
    for _ in range(processes):
        for name, statement in STATEMENTS.items():
            cpu_ms[name].append(Process([sys.executable, "-c", statement]).wait().cpu_s * 1e3)
    mlflow = [
        Process([sys.executable, "-c", "import mlflow"]).wait().cpu_s * 1e3 for _ in range(processes // 3)
    ]
    bare = median(cpu_ms["bare"])
    note(f"CPU that an import adds to a bare interpreter's {bare:.1f} ms; {load()}")
    show("  import mlobs", median(cpu_ms["import mlobs"]) - bare, "ms", 40)
    show("  import mlobs, and load Tracker and both backends", median(cpu_ms["first use"]) - bare, "ms")
    show("  import tensorboardX", median(cpu_ms["tensorboardX"]) - bare, "ms")
    show("  import mlflow", median(mlflow) - bare, "ms")


def show_start(processes: int) -> None:
    found: list[Ended] = []
    for _ in range(processes):
        with scratch() as folder:
            process = Process(part(__file__, "start", folder), cwd=folder, MLOBS_LINGER_S="0")
            wait_for_all([process])
            found.append(process.wait())
    note(f"MLflow and TensorBoard named, by the clock; {load()}")
    show("  start_run(), the first of a process (it starts the sender)", _median(found, "first"), "ms", 15)
    show("  start_run(), slowest of all processes", max(one.answer["first"] for one in found), "ms")
    show("  start_run(), the second", _median(found, "second"), "ms")
    show("  Tracker(...)", _median(found, "tracker"), "ms")


def show_empty_run(processes: int) -> None:
    empty, bare = [], []
    for _ in range(processes):
        with scratch() as folder:
            bare.append(Process([sys.executable, "-c", "pass"]).wait())
            empty.append(Process([sys.executable, "-c", EMPTY_RUN], cwd=folder).wait())
    note(f"a whole process, no backend named; {load()}")
    show("  one empty run, by the clock", median(one.wall_s for one in empty) * 1e3, "ms", 300)
    show("  one empty run, CPU", median(one.cpu_s for one in empty) * 1e3, "ms")
    show("  an interpreter that does nothing, by the clock", median(one.wall_s for one in bare) * 1e3, "ms")


def _median(found: list[Ended], name: str) -> float:
    return median(one.answer[name] for one in found)


# The part that runs in a process of its own


def start(folder: Path) -> dict[str, float]:
    import mlobs

    make_tracker = mlobs.Tracker  # its module is loaded here
    backends = [
        mlobs.backends.MLflow(f"sqlite:///{folder / 'mlflow.db'}"),
        mlobs.backends.TensorBoard(str(folder / "runs")),
    ]
    loaded = perf_counter()
    tracker = make_tracker("bench", store=folder / "store", backends=backends, finish_timeout_s=0)
    made = perf_counter()
    with tracker.start_run():
        first = perf_counter()
        with tracker.start_run():
            second = perf_counter()
    moments = {"tracker": made - loaded, "first": first - made, "second": second - first}
    return {name: seconds * 1e3 for name, seconds in moments.items()}


if __name__ == "__main__":
    main()
