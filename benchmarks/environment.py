"""What recording the environment costs: beside names and versions alone, and beside `pip freeze`.

Each round is a fresh process, as a sender is. Packages are those of the interpreter that runs this.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time

from measuring import heading, load, note, part, show, spread

CAPTURE_TARGET_MS = 2.5  # a distribution: 250 ms for 100
NATIVE_TARGET_MS = 50.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 rounds")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        import numpy as np  # what native facts are about; the others do not depend on it

        note(f"numpy {np.__version__}")
        print(json.dumps(timed(PARTS[options.part])))
    else:
        compare(rounds=2 if options.quick else 9)


def compare(*, rounds: int) -> None:
    heading(f"environment: {rounds} interleaved rounds")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in PARTS}
    freeze_ms: list[float] = []
    for number in range(rounds):
        for name in PARTS if number % 2 == 0 else reversed(PARTS):
            done = subprocess.run(part(__file__, name), capture_output=True, check=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
        freeze_ms.append(freeze())
    note(load())
    packages = found["record"][0]["count"]
    names_ms = [one["wall_ms"] / packages for one in found["names"]]
    record_ms = [one["wall_ms"] / packages for one in found["record"]]
    note(f"{packages:.0f} distributions")
    show("names and versions by importlib.metadata, a distribution", median(names_ms), "ms")
    show("the whole record, a distribution", median(record_ms), "ms", CAPTURE_TARGET_MS)
    note(f"  {spread(record_ms)}; {median(one['cpu_ms'] for one in found['record']):.0f} ms of CPU in all")
    show("pip freeze, a distribution", median(freeze_ms) / packages, "ms")
    for name, what in (("native", "native facts with numpy, the first time"), ("tampering", "verify_files")):
        target = NATIVE_TARGET_MS if name == "native" else None
        show(what, median(one["wall_ms"] for one in found[name]), "ms", target)
    sizes = found["tampering"][0]
    note(f"  verify_files found {sizes['count']:.0f} files that were changed")


def freeze() -> float:
    began = perf_counter()
    subprocess.run([sys.executable, "-m", "pip", "freeze"], capture_output=True, check=True)
    return 1e3 * (perf_counter() - began)


def timed(act: Callable[[], int]) -> dict[str, float]:
    began, began_cpu = perf_counter(), process_time()
    count = act()
    return {
        "wall_ms": 1e3 * (perf_counter() - began),
        "cpu_ms": 1e3 * (process_time() - began_cpu),
        "count": count,
    }


def names() -> int:
    from importlib import metadata

    return len({one.metadata["Name"]: one.version for one in metadata.distributions()})


def record() -> int:
    from mlobs.repro.environment import capture_environment

    return len(capture_environment().packages)


def native() -> int:
    from mlobs.repro.native import capture_native

    return len(capture_native().libraries)


def tampering() -> int:
    from mlobs.repro.tampering import verify_files

    return len(verify_files())


PARTS: dict[str, Callable[[], int]] = {
    "names": names,
    "record": record,
    "native": native,
    "tampering": tampering,
}

if __name__ == "__main__":
    main()
