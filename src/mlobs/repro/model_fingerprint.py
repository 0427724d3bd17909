"""Fingerprints of models: equal for equal models, whatever file, process or library's pickle they came from.

A fingerprint comes with one of each part, so that two models that differ say where.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from mlobs.errors import UsageError
from mlobs.repro.model_files import load_model
from mlobs.repro.model_frameworks import library_of
from mlobs.repro.model_scalars import digest
from mlobs.repro.model_walk import Node, Walk

SCHEME = "mfp1"
MAX_LEAVES = 2_000  # 120 kB in an event; a forest of 50 trees has 1,300, a large language model 1,000
MAX_DIFFERENCES = 50
_LEAF_HEX = 32
_LABELS = re.compile(r"\.[^.\[]*|\[[^\]]*\]|[^.\[]+|\[")

Leaves = list[tuple[tuple[str, ...], bytes]]


class ModelPrint(msgspec.Struct, frozen=True):
    """The fingerprint of a model.

    `text` is "mfp1:" and 64 hex digits. `leaves` are the parts by path (`$.3.weight`), in the model's order,
    each with the first 32 hex digits of its digest: at most 2,000, the deepest are put together for it.
    `library` made the model ("scikit-learn 1.9.1"): models of scikit-learn compare within one version of it
    only. `seconds` is what it took.
    """

    text: str
    leaves: dict[str, str]
    library: str | None
    seconds: float


def fingerprint_model(model_or_path: Any) -> ModelPrint:
    """Fingerprint a model by its value, or one in a file; neither is changed.

    Models: scikit-learn, torch, xgboost, lightgbm, catboost, keras, onnx, state dicts, and objects of Python
    that hold numbers, texts and arrays. A string or path is a file: .safetensors, .npz, .npy, .pt and .pth
    (state dicts), .json and .ubj (xgboost), .txt (lightgbm), .cbm (catboost), .keras, .onnx. No code of a
    file is run. A module of torch differs from its state dict, by its classes.

    Raises:
        UsageError: the file is not of these; or a part of the model has no value that can be read: a handle
            of the system, an object that cannot be pickled. The message names the part.
    """
    began = time.perf_counter()
    is_path = isinstance(model_or_path, str | os.PathLike)
    model = load_model(Path(model_or_path)) if is_path else model_or_path
    try:
        root = Walk().node(model)
    except RecursionError as error:
        raise UsageError("the model is nested deeper than Python can follow - pass a part of it") from error
    return ModelPrint(
        text=f"{SCHEME}:{root.digest.hex()}",
        leaves=_named(_folded(list(_leaves(root)))),
        library=library_of(model),
        seconds=time.perf_counter() - began,
    )


def diff_models(a: ModelPrint, b: ModelPrint) -> list[str]:
    """Say in words where two models differ, most telling first; empty if they do not.

    At most 50 parts are named; a last line counts the others.
    """
    if a.text == b.text:
        return []
    lines = []
    if a.library != b.library:
        lines.append(f"made by {a.library or 'no library'} and {b.library or 'no library'}")
    differing = [path for path, one in a.leaves.items() if b.leaves.get(path, one) != one]
    differing.sort(key=lambda path: not path.endswith(".__class__"))  # other classes explain other leaves
    found = [f"leaf {path} differs" for path in differing]
    found += [f"leaf {path} only in the first" for path in a.leaves if path not in b.leaves]
    found += [f"leaf {path} only in the second" for path in b.leaves if path not in a.leaves]
    if not found:
        found = [
            "the leaves are equal, but not how they are held: a list or a tuple, another type of mapping"
        ]
    more = [f"and {len(found) - MAX_DIFFERENCES} more"] if len(found) > MAX_DIFFERENCES else []
    return lines + found[:MAX_DIFFERENCES] + more


def _leaves(root: Node) -> Iterator[tuple[tuple[str, ...], bytes]]:
    stack: list[tuple[tuple[str, ...], Node]] = [((), root)]
    while stack:
        path, node = stack.pop()
        if not node.children:
            yield path, node.digest
        for label, child in reversed(node.children):
            stack.append(((*path, *_LABELS.findall(label)), child))


def _folded(leaves: Leaves) -> Leaves:
    """Put the deepest leaves together by what holds them, level by level, until there are few enough."""
    while len(leaves) > MAX_LEAVES:
        deepest = max(len(path) for path, _ in leaves)
        held: dict[tuple[str, ...], list[bytes]] = {}
        for path, one in leaves:
            if len(path) == deepest:
                label = path[-1].encode("utf-8", "surrogatepass")
                held.setdefault(path[:-1], []).append(digest("str", label) + one)
        folded = {path: digest("fold", b"".join(sorted(parts))) for path, parts in held.items()}
        kept: Leaves = []
        for path, one in leaves:
            if len(path) < deepest:
                kept.append((path, one))
            elif path[:-1] in folded:  # where its first part stood
                kept.append((path[:-1], folded.pop(path[:-1])))
        leaves = kept
    return leaves


def _named(leaves: Leaves) -> dict[str, str]:
    found: dict[str, str] = {}
    for path, one in leaves:
        name = "$" + "".join(path)
        while name in found:  # a key with a dot in it may read like two keys
            name += "'"
        found[name] = one.hex()[:_LEAF_HEX]
    return found
