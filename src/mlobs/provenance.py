"""What only the training process can say of how its results came about: its start, and its libraries."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from mlobs.events import Event, Snapshot
from mlobs.journal.process import this_process
from mlobs.secrets import masked
from mlobs.troubles import log
from mlobs.values import text_of

Append = Callable[[Event], None]

NATIVE, MODULES, NOTEBOOK, SEEDS = "native", "modules", "notebook", "seeds"  # parts of the snapshot
_TICKS = 2  # the kernel tells the start in whole ticks of 10 ms; a file written just before is not edited
_MOST_OWN = 5000  # names of modules in the journal, 20 bytes each
_OFTEN_S = 60.0  # a sweep of short runs is described once a minute: 30 ms each would be a second of 33 runs


def record_start(append: Append, function: str | None) -> None:
    """Record how the program was started, and what seeded it; 0.1 ms.

    `function` is the decorated function whose call the run is, as `module:qualified name`.
    """
    from mlobs.repro.entry import ENTRY, entry_facts

    def entry() -> dict[str, Any]:
        return {**_once(entry_facts), **({"function": function} if function else {})}

    _record(append, ENTRY, entry)
    record_seeding(append)


def record_seeding(append: Append) -> None:
    """Record what `mlobs.seed_everything` did last in this process, if it was called."""
    seeds = sys.modules.get("mlobs.repro.seeds")
    report = seeds.last_seeding() if seeds is not None else None
    if report is not None:
        append(Snapshot(time.time(), SEEDS, to_builtins(report)))


def record_process(append: Append, keep: Callable[[bytes], int]) -> None:
    """Record what the process has loaded by now, at the end of a run: libraries load late; 30 ms.

    `keep` keeps a payload and returns the ordinal of its blob.
    """
    from mlobs.repro.native import capture_native

    loaded = len(sys.modules)
    _record(append, NATIVE, lambda: _lately(capture_native, loaded, _era()))
    _record(append, MODULES, lambda: _lately(_module_facts, loaded, _era()))
    if "IPython" in sys.modules:
        _record_notebook(append, keep)


def record_lost_process(append: Append, reason: str) -> None:
    """Record that nobody could look at the process's libraries any more."""
    for part in (NATIVE, MODULES):
        append(Snapshot(time.time(), part, {}, missing=reason))


def _record_notebook(append: Append, keep: Callable[[bytes], int]) -> None:
    from mlobs.repro.notebooks import executed_notebook

    try:
        notebook = executed_notebook()
        if notebook is None:
            return
        content = notebook.script.encode("utf-8", "surrogateescape")
        facts = {
            "cells": len(notebook.cells),
            "path": None if notebook.path is None else text_of(notebook.path),
            "is_out_of_order": notebook.is_out_of_order,
            "file": "executed.py",
            "size_bytes": len(content),
        }
        append(Snapshot(time.time(), NOTEBOOK, facts, keep(content)))
    except Exception as error:  # training goes on, whatever IPython makes of its history
        append(Snapshot(time.time(), NOTEBOOK, {}, missing=_reason(error)))


def _record(append: Append, part: str, capture: Callable[[], dict[str, Any]]) -> None:
    """Record one part; what cannot be had is recorded with its reason, and costs the training nothing."""
    try:
        snapshot = Snapshot(time.time(), part, capture())
    except Exception as error:
        log.warning("the snapshot of the run lacks its %s: %s", part, _reason(error))
        snapshot = Snapshot(time.time(), part, {}, missing=_reason(error))
    append(snapshot)


def _reason(error: Exception) -> str:
    return masked(text_of(f"{type(error).__name__}: {error}"))


@functools.cache
def _once(facts: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return facts()


@functools.lru_cache(maxsize=4)
def _lately(look: Callable[[], Any], loaded: int, era: int) -> dict[str, Any]:
    """The facts as they are, or were less than a minute ago if no module was loaded since."""
    del loaded, era  # the keys
    facts: dict[str, Any] = to_builtins(look())
    return facts


def _module_facts() -> dict[str, Any]:
    """Where loaded code came from that is not installed; without mlobs itself, which changes no result."""
    from mlobs.repro.modules import loaded_roots

    others = {name: module for name, module in list(sys.modules.items()) if name.partition(".")[0] != "mlobs"}
    found = loaded_roots(others, started_at=_started_at())
    return {
        "local": len(found.local),
        "loose": [text_of(path) for path in found.loose],
        "changed": [text_of(path) for path in found.changed],
        "own": _by_folder(found.local[:_MOST_OWN]),
    }


def _by_folder(files: Iterable[Path]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in files:
        found.setdefault(text_of(path.parent), []).append(text_of(path.name))
    return found


def _started_at() -> float | None:
    """When this process started (Unix seconds, at most one tick late); None where the kernel does not say."""
    ticks = this_process().started
    if not ticks or not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    up_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - up_s + (ticks + _TICKS) / os.sysconf("SC_CLK_TCK")


def _era() -> int:
    return int(time.monotonic() / _OFTEN_S)
