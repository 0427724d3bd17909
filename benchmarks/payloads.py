"""What files and images cost the caller: beside a plain copy of the file, and in a training loop."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np

import mlobs
from measuring import Others, Process, heading, load, note, part, percentile, scratch, show, wait_for_all
from training_loop import QUIET_CORES, THREADS, Work

LARGE_BYTES, MANY, SMALL_BYTES = 200_000_000, 1_000, 10_000
SIDE_PX = 512
STEP_S, IMAGE_EVERY = 0.01, 100

Figures: TypeAlias = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 rounds, 20 MB, loops of 200 steps")
    parser.add_argument(
        "--part", nargs=4, metavar=("NAME", "STEPS", "PRODUCTS", "FOLDER"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.part:
        name, steps, products, folder = options.part
        print(json.dumps(loop(Path(folder), int(steps), int(products), with_images=name == "images")))
    elif options.quick:
        compare(rounds=2, large_bytes=LARGE_BYTES // 10, steps=200)
    else:
        compare(rounds=9, large_bytes=LARGE_BYTES, steps=1_000)


def compare(*, rounds: int, large_bytes: int, steps: int) -> None:
    heading(f"payloads: {rounds} interleaved rounds")
    with scratch() as folder:
        large, many = folder / "large.bin", folder / "many"
        large.write_bytes(os.urandom(1_000_000) * (large_bytes // 1_000_000))
        many.mkdir()
        for number in range(MANY):
            (many / f"{number:04}.bin").write_bytes(os.urandom(SMALL_BYTES))
        with mlobs.Tracker("payloads", store=folder / "store", on_error="raise").start_run() as run:
            files(run, folder, large, rounds)
            folders(run, folder, many, rounds)
            images(run, folder, rounds)
    loops(rounds, steps)


def files(run: mlobs.Run, folder: Path, large: Path, rounds: int) -> None:
    ours, plain = [], []
    for number in range(rounds):
        copy = folder / "copy.bin"
        for name in ("ours", "plain") if number % 2 else ("plain", "ours"):
            began = perf_counter()
            if name == "ours":
                run.log_artifact(large)
                ours.append(perf_counter() - began)
            else:
                shutil.copyfile(large, copy)
                plain.append(perf_counter() - began)
        copy.unlink()
        forget(folder / "store")
    note(load())
    show(f"log_artifact of {large.stat().st_size / 1e6:,.0f} MB, median", median(ours) * 1e3, "ms")
    show("shutil.copyfile of it, median", median(plain) * 1e3, "ms")
    show("log_artifact / copyfile, median of the pairs", ratio(ours, plain), "x", 1.3)


def folders(run: mlobs.Run, folder: Path, many: Path, rounds: int) -> None:
    ours, plain = [], []
    for number in range(rounds):
        copy = folder / "copies"
        for name in ("ours", "plain") if number % 2 else ("plain", "ours"):
            began = perf_counter()
            if name == "ours":
                run.log_artifacts(many)
                ours.append(perf_counter() - began)
            else:
                shutil.copytree(many, copy, copy_function=shutil.copyfile)
                plain.append(perf_counter() - began)
        shutil.rmtree(copy)
    show(f"log_artifacts of {MANY:,} files of {SMALL_BYTES:,} bytes, median", median(ours) * 1e3, "ms")
    show("shutil.copytree of them, median", median(plain) * 1e3, "ms")
    show("log_artifacts / copytree, median of the pairs", ratio(ours, plain), "x", 1.5)


def images(run: mlobs.Run, folder: Path, rounds: int) -> None:
    floats = photo()
    bytes_ = (floats * 255).astype(np.uint8)
    for name, image in (
        ("uint8", bytes_),
        ("float32", floats),
        ("float32 CHW", floats.transpose(2, 0, 1).copy()),
    ):
        took = []
        for step in range(rounds * 10):
            began = perf_counter()
            run.log_image("sample", image, step=step)
            took.append(perf_counter() - began)
        what = f"log_image of {SIDE_PX}x{SIDE_PX}x3 {name}"
        show(f"{what}, median", median(took) * 1e3, "ms", 3)
        show(f"{what}, p90", percentile(took, 90) * 1e3, "ms")
        forget(folder / "store")


def loops(rounds: int, steps: int) -> None:
    product_s = min(measure("plain", 300, 1)["median_s"] for _ in range(3))
    products = max(1, round(STEP_S / product_s))
    found: dict[str, list[Figures]] = {"images": [], "plain": []}
    for number in range(rounds):
        for name in ("images", "plain") if number % 2 else ("plain", "images"):
            found[name].append(measure(name, steps, products))
    pairs = list(zip(found["images"], found["plain"], strict=True))
    ratios = [mine["step_s"] / plain["step_s"] for mine, plain in pairs]
    quiet = [
        one for one, pair in zip(ratios, pairs, strict=True) if max(x["others"] for x in pair) < QUIET_CORES
    ]
    note(f"a loop of {steps:,} steps, one metric a step to MLflow and TensorBoard; {load()}")
    show("step without images, median", median(one["step_s"] for one in found["plain"]) * 1e3, "ms")
    show(f"with an image each {IMAGE_EVERY} steps / without, median of the pairs", median(ratios), "x", 1.03)
    if quiet:
        show(f"  of the {len(quiet)} pairs while others used little", median(quiet), "x", 1.03)
    note(f"  the pairs: {' '.join(f'{one:.3f}' for one in sorted(ratios))}")


def measure(name: str, steps: int, products: int) -> Figures:
    """Run one loop in a process of its own, and wait until its sender has ended too."""
    others = Others()
    with scratch() as folder:
        process = Process(part(__file__, name, steps, products, folder), cwd=folder, **THREADS)
        senders = wait_for_all([process])
        ended = process.wait()
    return {**ended.answer, "others": others.cores(ended.cpu_s + sum(senders.cpu_s.values()))}


def loop(folder: Path, steps: int, products: int, *, with_images: bool) -> Figures:
    """Seconds that a step takes: matrix products, one metric, and now and then an image."""
    backends = [
        mlobs.backends.MLflow(f"sqlite:///{folder}/mlflow.db", artifact_location=str(folder / "artifacts")),
        mlobs.backends.TensorBoard(str(folder / "board")),
    ]
    tracker = mlobs.Tracker("payloads", backends=backends, store=folder / "store", finish_timeout_s=600)
    image, work = photo(), Work(products)
    with tracker.start_run() as run:
        ends = [perf_counter()]
        for step in range(steps):
            run.log_metric("loss", work.step()["train/metric_0"], step=step)
            if with_images and step % IMAGE_EVERY == 0:
                run.log_image("sample", image, step=step)
            ends.append(perf_counter())
    return {"step_s": (ends[-1] - ends[0]) / steps, "median_s": median(b - a for a, b in pairwise(ends))}


def photo() -> Any:
    """Floats of shape [512, 512, 3] that compress as a photograph does: shapes, and a little noise."""
    random = np.random.default_rng(1)
    down, across = np.mgrid[0:SIDE_PX, 0:SIDE_PX] / SIDE_PX
    waves = [0.5 + 0.4 * np.sin(12 * down * phase + 9 * across) for phase in (1.0, 1.7, 2.3)]
    return np.clip(np.stack(waves, -1) + random.normal(0, 0.005, (SIDE_PX, SIDE_PX, 3)), 0, 1).astype(
        np.float32
    )


def ratio(ours: list[float], plain: list[float]) -> float:
    return median(one / other for one, other in zip(ours, plain, strict=True))


def forget(store: Path) -> None:
    """Free the disk: the figures are about writing, not about a full disk."""
    for blob in store.glob("runs/*/blobs/*"):
        blob.unlink()


if __name__ == "__main__":
    main()
