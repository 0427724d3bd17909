"""Run every benchmark, one after the other: `make bench`, or with `--quick` in a few minutes.

Each one can be run alone: `python benchmarks/NAME.py`. On a machine that others use as well, trust
the ratios more than the figures; the load average stands beside them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

BENCHMARKS = (
    "hot_path",
    "start_up",
    "training_loop",
    "throughput",
    "payloads",
    "report",
    "sweep",
    "read_back",
    "moving",
    "read",
    "outage",
    "many_runs",
    "endurance",
    "appinsights",
    "fingerprints",
    "model_fingerprints",
    "code_snapshot",
    "environment",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: do they all run?")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these, of: {', '.join(BENCHMARKS)}")
    options = parser.parse_args()
    began = time.monotonic()
    for name in options.names or BENCHMARKS:
        command = [sys.executable, str(Path(__file__).with_name(f"{name}.py"))]
        subprocess.run([*command, "--quick"] if options.quick else command, check=True)
    print(f"\nAll of it took {time.monotonic() - began:.0f} s.")


if __name__ == "__main__":
    main()
