"""What a model's fingerprint costs: bytes a second of weights beside the bare hash, and a forest of trees."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from blake3 import blake3

from measuring import heading, load, note, show, spread
from mlobs.repro.model_fingerprint import fingerprint_model
from mlobs.repro.number_arrays import MAX_THREADS

MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="32 MiB of weights, one round")
    options = parser.parse_args()
    if options.quick:
        weights(rounds=1, size_bytes=32 * MIB)
        forest(rounds=1)
    else:
        weights(rounds=7, size_bytes=512 * MIB)
        forest(rounds=9)


def weights(*, rounds: int, size_bytes: int) -> None:
    """A state dict of float32 matrices of 4 MiB and biases, as a network of 1,024 units a layer has them."""
    heading(f"{size_bytes // MIB} MiB of weights, {rounds} interleaved rounds")
    state = state_dict(size_bytes)
    whole = memoryview(np.concatenate([one.ravel() for one in state.values()]).view(np.uint8))  # type: ignore[arg-type]
    ways: dict[str, Callable[[], Any]] = {
        "blake3, one thread": lambda: blake3(whole).digest(),
        f"blake3, up to {MAX_THREADS} threads": lambda: blake3(whole, max_threads=MAX_THREADS).digest(),
        "fingerprint_model": lambda: fingerprint_model(state),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in ways if number % 2 == 0 else reversed(ways):
            found[name].append(len(whole) / seconds(ways[name]) / 1e9)
    note(load())
    for name, rates in found.items():
        show(f"{name}, median", median(rates), "GB/s")
        note(f"  {spread(rates)}")


def state_dict(size_bytes: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for layer in range(size_bytes // (4 * MIB)):
        found[f"{layer}.weight"] = rng.random((1024, 1024), dtype=np.float32)
        found[f"{layer}.bias"] = rng.random(1024, dtype=np.float32)
    return found


def forest(*, rounds: int) -> None:
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ModuleNotFoundError:
        note("scikit-learn is not installed: no forest")
        return
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(5_000, 20))
    model = RandomForestClassifier(50, random_state=0).fit(inputs, inputs[:, 0] + rng.normal(size=5_000) > 0)
    nodes = sum(one.tree_.node_count for one in model.estimators_)
    heading(f"a forest of 50 trees, {nodes:,} nodes, {rounds} rounds")
    found = [1e3 * seconds(lambda: fingerprint_model(model)) for _ in range(rounds)]
    show("fingerprint_model, median", median(found), "ms")
    note(f"  {spread(found)}, {len(fingerprint_model(model).leaves):,} leaves")


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
