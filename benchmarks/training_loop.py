"""How much longer a training loop takes when it logs 10 metrics a step to MLflow and TensorBoard."""

from __future__ import annotations

import argparse
import json
import os
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeAlias

from measuring import Others, Process, heading, load, note, part, scratch, show, spread, wait_for_all

STEP_S = 0.002
QUIET_CORES = 0.1  # the operating system itself takes 0.01 to 0.05
SIZE = 192  # of the matrices: one product takes some 0.1 to 0.5 ms on two cores
THREADS = {
    name: str(os.cpu_count()) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
}


Figures: TypeAlias = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 pairs of 500 steps")
    parser.add_argument(
        "--part", nargs=4, metavar=("NAME", "STEPS", "PRODUCTS", "FOLDER"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.part:
        name, steps, products, folder = options.part
        print(json.dumps(PARTS[name](int(steps), int(products), Path(folder))))
    elif options.quick:
        compare(pairs=3, steps=500)
    else:
        compare(pairs=9, steps=2_000)


def compare(*, pairs: int, steps: int) -> None:
    heading(f"training_loop: {pairs} interleaved pairs of processes, {steps:,} steps, 10 metrics a step")
    product_s = min(measure("without", 2_000, 1)["median_s"] for _ in range(3))
    products = max(1, round(STEP_S / product_s))
    without, logged = [], []
    for number in range(pairs):
        order = [("without", without), ("logged", logged)]
        for name, found in order if number % 2 else reversed(order):
            found.append(measure(name, steps, products))
    report(without, logged)


def measure(name: str, steps: int, products: int) -> Figures:
    """Run one loop in a process of its own, and wait until its sender has ended too."""
    others = Others()
    with scratch() as folder:
        process = Process(part(__file__, name, steps, products, folder), cwd=folder, **THREADS)
        senders = wait_for_all([process])
        ended = process.wait()
    return {**ended.answer, "others": others.cores(ended.cpu_s + sum(senders.cpu_s.values()))}


def report(without: list[Figures], logged: list[Figures]) -> None:
    pairs = list(zip(logged, without, strict=True))
    ratios = [mine["step_s"] / plain["step_s"] for mine, plain in pairs]
    quiet = [
        ratio
        for ratio, pair in zip(ratios, pairs, strict=True)
        if max(one["others"] for one in pair) < QUIET_CORES
    ]
    base = [plain["step_s"] for plain in without]
    again = [later / earlier for earlier, later in pairwise(base)]
    note(f"BLAS threads = {THREADS['OMP_NUM_THREADS']}; {load()}")
    show("step without logging, median", median(base) * 1e3, "ms")
    show("step with logging / without, median of the pairs", median(ratios), "x", 1.03)
    if quiet:
        show(
            f"  of the {len(quiet)} pairs while others used < {QUIET_CORES:g} cores", median(quiet), "x", 1.03
        )
    note(f"  the pairs: {' '.join(f'{ratio:.3f}' for ratio in sorted(ratios))}")
    note(f"  without logging: {spread(base)}")
    note(f"  each such loop against the one before: {' '.join(f'{ratio:.3f}' for ratio in sorted(again))}")
    medians = median(mine["median_s"] / plain["median_s"] for mine, plain in pairs)
    show("median step with logging / median step without, median of the pairs", medians, "x")
    show("finish(): the wait for delivery after the loop", median(one["finish_s"] for one in logged), "s")


# The parts, each in a process of its own


class Work:
    """Some matrix products, their results in numbers that look like metrics.

    It allocates nothing: an array made anew in each step costs 1x or 1.4x, as the heap happens to lie.
    """

    def __init__(self, products: int) -> None:
        import numpy as np

        random = np.random.default_rng(0)
        self._weights = random.standard_normal((SIZE, SIZE)) / SIZE**0.5
        self._state = random.standard_normal((SIZE, SIZE))
        self._product = np.empty_like(self._state)
        self._products, self._matmul, self._tanh = products, np.matmul, np.tanh

    def step(self) -> dict[str, float]:
        for _ in range(self._products):
            self._matmul(self._weights, self._state, out=self._product)
            self._tanh(self._product, out=self._state)
        return {f"train/metric_{row}": float(self._state[row, 0]) for row in range(10)}


def without(steps: int, products: int, _folder: Path) -> Figures:
    work, ends = Work(products), [perf_counter()]
    for _step in range(steps):
        work.step()
        ends.append(perf_counter())
    return _figures(ends)


def logged(steps: int, products: int, folder: Path) -> Figures:
    import mlobs

    tracker = mlobs.Tracker(
        "bench",
        store=folder / "store",
        backends=[
            mlobs.backends.MLflow(f"sqlite:///{folder / 'mlflow.db'}"),
            mlobs.backends.TensorBoard(str(folder / "runs")),
        ],
        finish_timeout_s=600,
    )
    work = Work(products)
    with tracker.start_run() as run:
        ends = [perf_counter()]
        for step in range(steps):
            run.log_metrics(work.step(), step=step)
            ends.append(perf_counter())
    return {**_figures(ends), "finish_s": perf_counter() - ends[-1]}


def _figures(ends: list[float]) -> Figures:
    steps = [later - earlier for earlier, later in pairwise(ends)]
    return {"step_s": (ends[-1] - ends[0]) / len(steps), "median_s": median(steps)}


PARTS = {"without": without, "logged": logged}

if __name__ == "__main__":
    main()
