"""Tables and references as markdown: for backends that show texts, and keep no files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

import msgspec
from blake3 import blake3

from mlobs.events import Artifact

MAX_ROWS = 100  # a person reads no more of a text, and a browser lays a table out as a whole
MAX_COLUMNS = 30
MAX_CELL = 200  # characters
_READ_BYTES = 1 << 20


def table(event: Artifact, content: BinaryIO) -> str:
    """The first rows and columns of a table or matrix; of Parquet, which is no text, a reference."""
    if event.media_type != "application/json" and (event.raw or {}).get("media_type") != "application/json":
        return reference(event, content)
    head, rows = _grid(msgspec.json.decode(content.read()))
    shown = [row[:MAX_COLUMNS] for row in rows[:MAX_ROWS]]
    text = _lines(head[:MAX_COLUMNS], shown)
    if len(rows) > MAX_ROWS or len(head) > MAX_COLUMNS:
        text += (
            f"\n\n{len(shown)} of {len(rows):,} rows, {min(len(head), MAX_COLUMNS)} of {len(head):,} columns"
        )
    return text


def reference(event: Artifact, content: BinaryIO) -> str:
    """What names a file without its content: path, size, type, and the digest that identifies it."""
    digest, size_bytes = blake3(), 0
    while portion := content.read(_READ_BYTES):
        digest.update(portion)
        size_bytes += len(portion)
    facts = {
        "size": f"{size_bytes:,} bytes",
        "type": (event.raw or {}).get("media_type", event.media_type),
        "role": (event.raw or {}).get("role", event.role),
        "blake3": digest.hexdigest(),
        **(event.meta or {}),
    }
    return _lines(["artifact", event.path], [[name, value] for name, value in facts.items()])


def _grid(document: Any) -> tuple[list[Any], Sequence[Sequence[Any]]]:
    """The head and the rows of a table's or a matrix's JSON."""
    if "matrix" not in document:
        return document["columns"], document["data"]
    rows: list[list[Any]] = document["matrix"]
    labels = document.get("labels")
    names = document.get("rows", labels) or [str(number) for number in range(len(rows))]
    columns = document.get("columns", labels) or [str(number) for number in range(len(rows[0]))]
    corner = "actual / predicted" if labels else ""
    return [corner, *columns], [[name, *row] for name, row in zip(names, rows, strict=True)]


def _lines(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    cells = [_cell(one) for one in head]
    lines = [f"| {' | '.join(cells)} |", f"| {' | '.join('---' for _ in cells)} |"]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
    line = " ".join(text.split())
    cut = line if len(line) <= MAX_CELL else f"{line[: MAX_CELL - 1]}…"
    return "".join(f"\\{one}" if one in "\\|`*_<>[]#" else one for one in cut)
