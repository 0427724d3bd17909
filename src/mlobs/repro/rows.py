"""rows1: one digest of a table's rows in whatever order, made of parts that add up.

So an engine computes it where the data lies: a partial of each partition, and their sum. It tells equal
from different; unlike tfp1 it is a sum, and somebody who wants to can make two tables that share one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from mlobs.repro.canonical import CHUNK, Array, Buffers, Source
from mlobs.repro.fingerprint_value import Fingerprint
from mlobs.repro.frames import sources_of
from mlobs.repro.tables import hasher, sized
from mlobs.repro.tags import COMPLEX, FLOATS, MOMENTS, TEXTS, Tag

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MISSING = 0x6D6C6F62735F4E41
_SECOND = 0xD1B54A32D192ED03  # makes the second sum independent of the first


class RowsPartial(msgspec.Struct, frozen=True):
    """The rows of a part of a table: how many, and two sums of their hashes modulo 2^64.

    Partials of the parts of a table add up to that of the table, however it was cut and shuffled.
    """

    n: int = 0
    s1: int = 0
    s2: int = 0

    @classmethod
    def of(cls, table: Any) -> RowsPartial:
        """The partial of a table: of pyarrow, pandas or Polars.

        Raises:
            UsageError: it is no table, or a column has no canonical form.
        """
        sources, rows = sources_of(table)
        return cls.of_sources(sources, rows)

    @classmethod
    def of_sources(cls, sources: Iterable[Source], rows: int) -> RowsPartial:
        """The partial of columns."""
        columns = list(sources)
        total = cls()
        for start in range(0, rows, CHUNK):
            stop = min(start + CHUNK, rows)
            total += _of_chunk([(one, one.chunk(start, stop)) for one in columns], stop - start)
        return total

    def __add__(self, other: RowsPartial) -> RowsPartial:
        """The partial of both together."""
        return RowsPartial(self.n + other.n, (self.s1 + other.s1) & _MASK, (self.s2 + other.s2) & _MASK)

    def fingerprint(self) -> Fingerprint:
        """The fingerprint of all rows that were added up."""
        return Fingerprint(f"rows1:{self.n:016x}{self.s1:016x}{self.s2:016x}", "rows", self.n)


def _of_chunk(columns: list[tuple[Source, Buffers]], rows: int) -> RowsPartial:
    import numpy as np

    with np.errstate(over="ignore"):
        row = np.full(rows, _GOLDEN, np.uint64)
        for source, buffers in columns:
            cells = _cells(source.tag, iter(buffers), rows)
            row = _mixed(row * np.uint64(_GOLDEN) + (cells ^ _seed(source.name)))
        second = _mixed(row ^ np.uint64(_SECOND))
        return RowsPartial(rows, int(row.sum(dtype=np.uint64)), int(second.sum(dtype=np.uint64)))


def _seed(text: str) -> Any:
    import numpy as np

    return np.uint64(struct.unpack("<Q", hasher("mlobs rows1").update(sized(text)).digest()[:8])[0])


def _mixed(bits: Array) -> Array:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014); the argument is not needed any more."""
    import numpy as np

    bits = bits ^ (bits >> np.uint64(30))
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits


# Cells: one hash of 64 bits each; a missing one has the same in every type


def _cells(tag: Tag, buffers: Iterator[Any], rows: int) -> Array:
    import numpy as np

    if tag.kind == "ext":
        return _cells(tag.children[0][1], buffers, rows)
    if tag.kind == "null":
        return np.full(rows, _MISSING, np.uint64)
    if tag.kind in FLOATS or tag.kind in COMPLEX:
        return _of_floats(tag.kind, next(buffers))
    bits = next(buffers)
    found = _present(tag, buffers, rows)
    if bits.size:
        found[~np.unpackbits(bits, count=rows, bitorder="little").view(bool)] = _MISSING
    return found


def _present(tag: Tag, buffers: Iterator[Any], rows: int) -> Array:
    """The hashes of values of which none counts as missing."""
    import numpy as np

    if tag.kind == "struct":
        row = np.full(rows, _seed("struct"), np.uint64)
        for name, child in tag.children:
            row = _mixed(row * np.uint64(_GOLDEN) + (_cells(child, buffers, rows) ^ _seed(name)))
        return row
    if tag.kind == "list":
        lengths = next(buffers).astype(np.int64)
        items = _cells(tag.children[0][1], buffers, int(lengths.sum()))
        return _folded(items, lengths, lengths, "list")
    if tag.kind in TEXTS:
        lengths = next(buffers).astype(np.int64)
        return _of_texts(lengths, next(buffers), tag.kind)
    if tag.kind == "dec":
        return _of_decimals(next(buffers), int(tag.detail))
    if tag.kind == "bool":
        numbers = np.unpackbits(next(buffers), count=rows, bitorder="little").astype(np.uint64)
    else:
        numbers = next(buffers).astype(np.int64 if tag.kind[0] != "u" else np.uint64).view(np.uint64)
    if tag.kind in MOMENTS:  # nanoseconds; those that do not fit wrap around
        rest = next(buffers)
        numbers = numbers * np.uint64(1_000) + (rest.astype(np.uint64) if rest.size else np.uint64(0))
    return _mixed(numbers ^ _seed(tag.kind))


def _of_floats(kind: str, values: Array) -> Array:
    import numpy as np

    bits = values.view(f"<u{values.dtype.itemsize}").astype(np.uint64)
    found = _mixed(bits ^ _seed(kind))
    found[np.isnan(values)] = _MISSING
    if kind in COMPLEX:
        return _mixed(found[::2] * np.uint64(_GOLDEN) + found[1::2])
    return found


def _of_texts(lengths: Array, data: Array, kind: str) -> Array:
    """Texts as words of 8 bytes, the last one filled up with zeros."""
    import numpy as np

    counts = (lengths + 7) // 8
    place = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    start = np.repeat(np.cumsum(lengths) - lengths, counts) + 8 * place
    padded = np.concatenate([data, np.zeros(8, np.uint8)])
    words = np.ndarray(len(data) + 1, "<u8", padded, strides=(1,))[start]
    beyond = 8 * np.maximum(0, 8 - (np.repeat(lengths, counts) - 8 * place))
    words &= np.uint64(_MASK) >> beyond.astype(np.uint64)
    return _folded(words, counts, lengths, kind)


def _of_decimals(content: Array, scale: int) -> Array:
    """Decimals without the zeros at their end: another partition may have another scale."""
    import numpy as np

    texts = []
    factor, scale = 10 ** max(0, -scale), max(0, scale)
    for at in range(0, len(content), 32):
        value, rest = int.from_bytes(content[at : at + 32].tobytes(), "little", signed=True) * factor, scale
        while rest and value % 10 == 0:
            value, rest = value // 10, rest - 1
        texts.append(f"{value}e-{rest}".encode())
    lengths = np.array([len(text) for text in texts], np.int64)
    return _of_texts(lengths, np.frombuffer(b"".join(texts), np.uint8), "dec")


def _folded(items: Array, counts: Array, lengths: Array, kind: str) -> Array:
    """One hash of each run of `counts` items, in which their order matters."""
    import numpy as np

    ends = np.cumsum(counts)
    place = np.arange(len(items)) - np.repeat(ends - counts, counts)
    places = _mixed(np.arange(1, 2 + int(counts.max(initial=0)), dtype=np.uint64))
    sums = np.zeros(len(items) + 1, np.uint64)
    np.cumsum(_mixed(items ^ places[place]), out=sums[1:])
    folded = sums[ends] - sums[ends - counts]
    return _mixed((folded + lengths.astype(np.uint64) * np.uint64(_GOLDEN)) ^ _seed(kind))
