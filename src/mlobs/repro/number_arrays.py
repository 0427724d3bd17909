"""afp1 of arrays of numbers: their type, their shape, and their values in C order, whatever their layout.

Large ones are hashed by several cores. docs/reference/fingerprints.md has the bytes.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from blake3 import blake3

from mlobs.repro import canonical
from mlobs.repro.canonical import Array

CONTEXT = "mlobs afp1"
THREADED_BYTES = 4 << 20  # below, starting threads (0.1 ms) costs more than it saves
MAX_THREADS = 8  # reading memory is the limit then
_BLOCK = 1 << 16  # values at a time: they stay in a core's own cache
_SHARED_BLOCK = 1 << 22  # values at a time that several cores share
_BF16_INFINITY, _BF16_NAN = 0x7F80, 0x7FC0
_OF_ML_DTYPES = {"bfloat16": "bf16"}


class TaggedArray(NamedTuple):
    """Numbers that NumPy has no dtype for, as unsigned integers of the same bits; `kind` names them."""

    kind: str
    array: Any


def digest_of_numbers(array: Any, kind: str | None = None) -> bytes:
    """The 32 bytes of an array's afp1; `kind` is the type of numbers that NumPy has no dtype for.

    Raises:
        TypeError: the dtype is not of numbers of a fixed width.
    """
    import numpy as np

    values = np.asarray(array)
    kind = kind or number_kind(values.dtype)
    if values.dtype.type.__module__ == "ml_dtypes":
        values = values.view(f"<u{values.dtype.itemsize}")
    is_large = values.nbytes >= THREADED_BYTES
    one = begun(kind, values.shape, max_threads=min(os.cpu_count() or 1, MAX_THREADS) if is_large else 1)
    for block in _blocks(values, _SHARED_BLOCK if is_large else _BLOCK):
        one.update(_encoded(kind, block).view("u1"))
    return bytes(one.digest())


def number_kind(dtype: Any) -> str:
    """The kind and bits of a dtype, as afp1 writes them: "f32", "i64", "bool", "bf16".

    Raises:
        TypeError: it is none of numbers of a fixed width.
    """
    if dtype.type.__module__ == "ml_dtypes":
        return _OF_ML_DTYPES.get(dtype.name, str(dtype.name))
    if dtype.kind == "b":
        return "bool"
    if dtype.kind in "iufc" and dtype.itemsize <= (16 if dtype.kind == "c" else 8):
        return f"{dtype.kind}{dtype.itemsize * 8}"
    raise TypeError(f"an array of {dtype} has no afp1; expected numbers or booleans of at most 64 bits")


def begun(kind: str, shape: tuple[int, ...], *, max_threads: int = 1) -> Any:
    """The hash of an array behind its head: the type, a zero byte, the number of dimensions, each length."""
    head = kind.encode() + b"\0" + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    # not blake3.AUTO: its threads outlive the call, and a child forked later would wait for them for ever
    return blake3(head, derive_key_context=CONTEXT, max_threads=max_threads)


def _encoded(kind: str, values: Array) -> Array:
    """The values little endian; every NaN is the one quiet NaN."""
    match values.dtype.kind:
        case "f":
            return canonical.floats(values)[0]
        case "c":
            return canonical.complexes(values)[0]
    values = canonical.little(values)
    if kind == "bf16":
        missing = (values & 0x7FFF) > _BF16_INFINITY
        if missing.any():
            values = values.copy()
            values[missing] = _BF16_NAN
    return values


def _blocks(values: Array, most: int) -> Iterator[Array]:
    """The values in C order, so many at a time: a view of contiguous ones, else a copy of a few rows."""
    if values.flags.c_contiguous:
        flat = values.reshape(-1)
        yield from (flat[at : at + most] for at in range(0, flat.size, most))
        return
    row = math.prod(values.shape[1:])
    if row > most:
        yield from (block for one in values for block in _blocks(one, most))
        return
    step = max(1, most // max(1, row))
    for at in range(0, len(values), step):
        yield values[at : at + step].reshape(-1)
