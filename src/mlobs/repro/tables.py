"""tfp1: one digest of a table, the same from every library that holds it; docs/reference/fingerprints.md.

A column is hashed in chunks that begin at row 0, so no partition, row group or slice shows in it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from mlobs.repro.canonical import CHUNK, Buffers, Source, has_value
from mlobs.repro.fingerprint_value import Column, Fingerprint
from mlobs.repro.tags import NULL, Tag


def hasher(context: str) -> Any:
    """BLAKE3 that derives its key from this context, so that no digest is one of something else."""
    from blake3 import blake3

    return blake3(derive_key_context=context)


def sized(text: str) -> bytes:
    """A text as it stands in what is hashed: its length in bytes, and it in UTF-8."""
    content = text.encode("utf-8", "backslashreplace")
    return struct.pack("<I", len(content)) + content


class ColumnHash:
    """A column as its chunks come, each of `CHUNK` rows but the last."""

    def __init__(self, name: str, tag: Tag) -> None:
        self.name = name
        self.rows = 0
        self._tag = tag
        self._is_missing = True
        self._chunks: list[bytes] = []

    def add(self, rows: int, buffers: Buffers) -> None:
        """Take the next chunk."""
        if self._is_missing and has_value(self._tag, buffers):
            self._is_missing = False
        one = hasher("mlobs tfp1 chunk")
        one.update(struct.pack(f"<QI{len(buffers)}Q", rows, len(buffers), *(part.nbytes for part in buffers)))
        for part in buffers:
            one.update(part.view("u1"))
        self._chunks.append(one.digest())
        self.rows += rows

    def column(self) -> Column:
        """What it came to. A column without any value has no type: libraries differ in what they call it."""
        tag = (NULL if self._is_missing else self._tag).text
        one = hasher("mlobs tfp1 column").update(struct.pack("<Q", self.rows) + sized(tag))
        if not self._is_missing:
            one.update(b"".join(self._chunks))
        return Column(self.name, tag, one.hexdigest())


def column_of(source: Source) -> Column:
    """Hash a column that is all there."""
    found = ColumnHash(source.name, source.tag)
    for start in range(0, source.rows, CHUNK):
        stop = min(start + CHUNK, source.rows)
        found.add(stop - start, source.chunk(start, stop))
    return found.column()


def table_of(columns: Sequence[Column], rows: int) -> str:
    """The text of a table's fingerprint, from its columns in order."""
    one = hasher("mlobs tfp1 table").update(struct.pack("<QI", rows, len(columns)))
    for column in columns:
        one.update(sized(column.name) + sized(column.tag) + bytes.fromhex(column.digest))
    return f"tfp1:{one.hexdigest()}"


def fingerprint_of_sources(
    sources: Iterable[Source], rows: int, size_bytes: int | None = None
) -> Fingerprint:
    """The content fingerprint of a table that is all there."""
    found = list(sources)
    columns = tuple(column_of(source) for source in found)
    notes = {source.name: source.note for source in found if source.note}
    return Fingerprint(table_of(columns, rows), "content", rows, size_bytes, columns, notes=notes)
