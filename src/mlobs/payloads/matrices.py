"""Matrices: the numbers as JSON, and a picture of them, which the sender draws."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from mlobs.errors import UsageError
from mlobs.events import Role
from mlobs.payloads.arrays import as_matrix
from mlobs.payloads.payload import Payload, clean_path
from mlobs.values import text_of

HEAT_MAP = "heat map"  # the form of raw content: the JSON of a matrix, to be drawn
_MAX_CELLS = 1_000_000  # a picture shows no more, and its JSON takes 1 s and 20 MB


def matrix(
    name: str, value: Any, rows: Sequence[object] | None = None, columns: Sequence[object] | None = None
) -> Iterator[Payload]:
    """The numbers under NAME.json and a heat map under NAME.png.

    `value` has the shape [R, C]; `rows` and `columns` are R and C labels. JSON is
    `{"matrix": [[...]], "rows": [...], "columns": [...]}`, with "NaN", "Infinity" and "-Infinity" as
    texts.

    Raises:
        UsageError: it is no matrix, or the labels do not fit.
    """
    array = as_matrix(f"log_matrix({name!r})", value)
    labels = {"rows": _labels(name, rows, array.shape[0]), "columns": _labels(name, columns, array.shape[1])}
    yield from _payloads(name, "matrix", array, {key: one for key, one in labels.items() if one is not None})


def confusion_matrix(name: str, value: Any, labels: Sequence[object] | None = None) -> Iterator[Payload]:
    """The counts under NAME.json and a heat map under NAME.png.

    `value[i][j]` counts what is `labels[i]` and was predicted as `labels[j]`, as in scikit-learn.

    Raises:
        UsageError: it is not square, or the labels do not fit.
    """
    array = as_matrix(f"log_confusion_matrix({name!r})", value)
    if array.shape[0] != array.shape[1]:
        raise UsageError(
            f"log_confusion_matrix({name!r}) got shape {array.shape}; expected as many rows as columns"
        )
    known = _labels(name, labels, array.shape[0])
    yield from _payloads(
        name, "confusion_matrix", array, {"labels": known or [str(n) for n in range(len(array))]}
    )


def _payloads(name: str, role: Role, array: Any, labels: dict[str, Any]) -> Iterator[Payload]:
    if array.size == 0 or array.size > _MAX_CELLS:
        raise UsageError(
            f"{name!r} is a matrix of shape {array.shape}; expected 1 to {_MAX_CELLS:,} cells - "
            "log_artifact takes a file of any size, such as np.save writes"
        )
    path = clean_path(name)
    stem = path.removesuffix(".json").removesuffix(".png")
    content = msgspec.json.encode({"matrix": [list(map(_number, row)) for row in array.tolist()], **labels})
    yield Payload(f"{stem}.json", role, "application/json", content)
    yield Payload(f"{stem}.png", "image", "image/png", content, raw={"form": HEAT_MAP, "of": role})


def _labels(name: str, labels: Sequence[object] | None, expected: int) -> list[str] | None:
    if labels is None:
        return None
    texts = [text_of(one) for one in labels]
    if len(texts) != expected:
        raise UsageError(f"{name!r} got {len(texts)} labels for {expected} rows or columns of the matrix")
    return texts


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
