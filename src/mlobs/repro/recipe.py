"""A run's recipe in one word: the same recipe on the same machine is expected to give the same model.

    recipe1 = BLAKE3 of the canonical JSON of: code trees by place, digests of imported files that are in
              none of them, entry point (of a notebook the cells as they were run), params, dataset
              fingerprints by context and name, environment digest, seeds, world size, number of the run
              in its program
    machine1 = BLAKE3 of native libraries, their kernels and threads, GPU and driver, see `machine_key`

Both are keys to compare, no secrets: whoever knows the parts can make them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec import convert

from mlobs.events import Snapshot, Tags
from mlobs.read.record import RunRecord, liveness, read_run
from mlobs.repro.dataset_comparison import VERIFIABLE
from mlobs.repro.entry import ENTRY
from mlobs.repro.entry_point import entry_point
from mlobs.repro.gpus import Gpus
from mlobs.repro.native import machine_key
from mlobs.repro.parts import (
    code_parts,
    code_roots,
    earlier_programs,
    edited_code,
    root_of,
    uncaptured,
    unknown_imports,
)
from mlobs.text import json_bytes

RECIPE_TAG, MACHINE_TAG = "mlobs.recipe", "mlobs.machine"
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # of an object without a repr of its own: it differs each time


class Recipe(NamedTuple):
    """What a run was made of. `key` is None where `missing` says that a part is not known."""

    key: str | None
    machine: str | None
    missing: tuple[str, ...]


def recipe_of(record: RunRecord, root: RunRecord | None = None) -> Recipe:
    """Put together what a run was made of, from its own record and, of a child, its program's.

    `root` is the run that holds the program's snapshot, if it is known already.
    """
    root = root or root_of(record)
    parts, missing = _parts(record, root)
    machine = _machine(root)
    if missing:
        return Recipe(None, machine, tuple(missing))
    return Recipe(f"recipe1:{_digest(parts)}", machine, ())


def recipe_tags(record: RunRecord, root: RunRecord | None = None) -> Tags | None:
    """Return the tags that name a run's recipe and machine; None if neither is known."""
    recipe = recipe_of(record, root)
    tags = {RECIPE_TAG: recipe.key, MACHINE_TAG: recipe.machine}
    known = {name: value for name, value in tags.items() if value}
    return Tags(time.time(), known) if known else None


def is_named(record: RunRecord) -> bool:
    """Tell whether the tags of a run name its recipe as far as it is known now."""
    tags = recipe_tags(record)
    return tags is None or tags.values.items() <= record.tags.items()


def is_below(record: RunRecord, root: RunRecord) -> bool:
    """Tell whether a run is a child of another, or of one of its children."""
    seen: set[str] = set()
    parent = record.parent_run_id
    while parent is not None and parent != root.run_id and parent not in seen:
        seen.add(parent)
        above = read_run(record.folder.sibling(parent), liveness())
        parent = above.parent_run_id if above is not None else None
    return parent == root.run_id


def _parts(record: RunRecord, root: RunRecord) -> tuple[dict[str, Any], list[str]]:
    """The recipe as plain values, and what is not known of it."""
    missing = []
    for part in (ENTRY, "code", "environment"):
        one = root.snapshots.get(part)
        if one is None or one.missing is not None:
            missing.append(f"{part}: {one.missing if one is not None else 'not captured'}")
    missing += [f"{one.part}: {one.missing}" for one in code_parts(root).values() if _is_lost_root(one)]
    missing += [*unknown_imports(root), *edited_code(root), *earlier_programs(root)]
    weak = [
        f"dataset {one.name}: {one.strength} only"
        for one in record.datasets
        if one.strength not in VERIFIABLE
    ]
    if missing or weak:
        return {}, [*missing, *weak]
    seeds = root.snapshots.get("seeds")
    entry, roots = root.snapshots[ENTRY].facts, code_roots(root)
    start = record.start
    parts = {
        "code": {place: one.tree for place, one in roots.items()},
        "beside": {one.place: one.digest for one in uncaptured(root)},
        "entry": entry_point(entry, tuple(roots.values())),
        "cells": _cells(root),
        "params": record.params,
        "datasets": sorted([one.context, one.name, one.fingerprint] for one in record.datasets),
        "environment": root.snapshots["environment"].facts.get("digest"),
        "seed": None if seeds is None else seeds.facts.get("seed"),
        "hash_seed": entry.get("environment", {}).get("PYTHONHASHSEED"),
        "world_size": start.world_size if start is not None else 1,
        "number": start.number if start is not None else 0,
    }
    return parts, []


def _machine(root: RunRecord) -> str | None:
    native, gpus = root.snapshots.get("native"), root.snapshots.get("gpus")
    if native is None or native.missing is not None:
        return None
    return machine_key(native.facts, convert(gpus.facts, Gpus) if gpus and not gpus.missing else None)


def _is_lost_root(one: Snapshot) -> bool:
    """Tell whether a repository or folder beside the main one could not be captured."""
    return one.missing is not None and one.part != "code"


def _cells(root: RunRecord) -> str | None:
    """The digest of a notebook's cells, as they were run; None for other programs."""
    from blake3 import blake3

    path = root.snapshot_file("notebook")
    return None if path is None else blake3(path.read_bytes()).hexdigest()


def _digest(parts: Mapping[str, Any]) -> str:
    from blake3 import blake3

    plain = json.loads(_ADDRESS.sub("", json_bytes(parts, indent=None).decode()))
    return blake3(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
