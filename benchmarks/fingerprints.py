"""Fingerprints of tables and of folders, beside the bare hash of the same bytes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np
import pandas as pd
from blake3 import blake3

from measuring import heading, load, note, scratch, show
from mlobs.repro.fingerprint import RowsPartial, StatCache, fingerprint
from mlobs.repro.stat_cache import RACY_NS

GB = 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="32 MB and 500 files, measured once")
    options = parser.parse_args()
    rows, files, rounds = (500_000, 500, 1) if options.quick else (4_000_000, 10_000, 7)
    tables(rows, rounds)
    folders(files, rounds)


def timed(*calls: Callable[[], object], rounds: int) -> list[float]:
    """The medians of several calls that take turns, in seconds: what others do to the machine hits all."""
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for times, call in zip(found, calls, strict=True):
            began = perf_counter()
            call()
            times.append(perf_counter() - began)
    return [median(times) for times in found]


def tables(rows: int, rounds: int) -> None:
    heading(f"fingerprints: tables of {rows:,} rows; medians of {rounds} rounds that take turns")
    draw = np.random.default_rng(0)
    floats = pd.DataFrame({f"x{at}": draw.normal(size=rows) for at in range(8)})
    holes = pd.DataFrame({name: floats[name].mask(draw.random(rows) < 0.1) for name in floats})
    words = pd.DataFrame({"s": [f"word {n}" for n in draw.integers(0, 10**9, rows // 4)]})
    for name, frame in (
        ("8 columns of float64", floats),
        ("with 10 % NaN", holes),
        ("one 2-D block", block(rows)),
    ):
        ours_s, bare_s = timed(lambda f=frame: fingerprint(f), lambda f=frame: bare(f), rounds=rounds)
        size = frame.memory_usage(index=False).sum() / GB
        note(f"{name}; {load()}")
        show("  fingerprint", size / ours_s, "GB/s")
        show("  BLAKE3 of the same columns, one thread", size / bare_s, "GB/s")
        show("  time / that of BLAKE3", ours_s / bare_s, "x", 1.25 if frame is floats else None)
    for name, frame in (("str of pandas", words), ("objects", words.astype(object))):
        (text_s,) = timed(lambda f=frame: fingerprint(f), rounds=rounds)
        show(f"texts, {name}, a million", text_s / len(words) * 1e6, "s")
    (rows_s,) = timed(lambda: RowsPartial.of(floats), rounds=rounds)
    show("rows1 of the floats", floats.memory_usage(index=False).sum() / GB / rows_s, "GB/s")


def block(rows: int) -> Any:
    return pd.DataFrame(np.random.default_rng(1).normal(size=(rows, 8)))


def bare(frame: Any) -> None:
    for name in frame:
        blake3(np.ascontiguousarray(frame[name].to_numpy()).view("u1")).digest()


def folders(files: int, rounds: int) -> None:
    heading(f"fingerprints: a folder of {files:,} files of 20 kB in memory; medians of {rounds} rounds")
    with scratch() as place:
        folder = place / "data"
        fill(folder, files)
        large = place / "large.bin"
        large.write_bytes(os.urandom(1 << 20) * 256)
        sleep(1.1 * RACY_NS / 1e9)  # a younger file is not trusted
        cache = StatCache(place / "cache.sqlite")
        cold_s, plain_s = timed(lambda: fingerprint(folder), lambda: plain(folder), rounds=rounds)
        fingerprint(folder, cache=cache)
        (warm_s,) = timed(lambda: fingerprint(folder, cache=cache), rounds=rounds)
        show("read for the first time", cold_s, "s", 0.3)
        show("  a loop of open, read and BLAKE3 over the same files", plain_s, "s")
        show("unchanged since, with a cache", warm_s, "s", 0.1)
        (large_s,) = timed(lambda: fingerprint(large), rounds=rounds)
        show("one file of 256 MiB", large.stat().st_size / GB / large_s, "GB/s")


def fill(folder: Path, files: int) -> None:
    content = np.random.default_rng(2).bytes(20_000)
    for number in range(files):
        path = folder / f"part-{number % 100:03}" / f"{number:06}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(number.to_bytes(8, "little") + content)


def plain(folder: Path) -> None:
    for path in sorted(folder.rglob("*.bin")):
        blake3(path.read_bytes()).digest()


if __name__ == "__main__":
    main()
