"""Digests of arrays inside models: afp1, of the values alone, whatever their layout in memory."""

from __future__ import annotations

import os
import struct
from typing import Any, NamedTuple

from blake3 import blake3

AFP1 = "mlobs afp1"
THREADED_BYTES = 4 << 20  # below, starting threads (0.1 ms) costs more than it saves
MAX_THREADS = 8  # reading memory is the limit then
_KINDS = "biufc"
_OF_ML_DTYPES = {"bfloat16": "bf16"}


class TaggedArray(NamedTuple):
    """Numbers that numpy has no dtype for, as unsigned integers of the same bits; `kind` names them."""

    kind: str
    array: Any


def array_digest(array: Any, kind: str | None = None) -> bytes:
    """afp1 of a numeric or boolean numpy array: 32 bytes.

    BLAKE3 with the derivation context "mlobs afp1" over: kind and bits ("f32", "i64", "b8", "bf16"), a zero
    byte, the number of dimensions as u32, each length as u64, and the values in C order; all little endian.
    `kind` replaces the one of the dtype.

    Raises:
        TypeError: the dtype is not of numbers of a fixed width.
    """
    import numpy as np

    array = np.asarray(array)
    head = (kind or array_kind(array.dtype)).encode() + b"\0"
    head += struct.pack(f"<I{array.ndim}Q", array.ndim, *array.shape)
    if array.dtype.kind != "V" and array.dtype.byteorder not in "|=<":
        array = array.astype(array.dtype.newbyteorder("<"))
    content: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    # not blake3.AUTO: its threads outlive the call, and a child forked later would wait for them for ever
    threads = min(os.cpu_count() or 1, MAX_THREADS) if content.nbytes >= THREADED_BYTES else 1
    hasher = blake3(head, derive_key_context=AFP1, max_threads=threads)
    hasher.update(memoryview(content))
    return hasher.digest()


def array_kind(dtype: Any) -> str:
    """The kind and bits of a dtype, as afp1 writes them.

    Raises:
        TypeError: it is none of numbers of a fixed width.
    """
    if dtype.type.__module__ == "ml_dtypes":
        return _OF_ML_DTYPES.get(dtype.name, str(dtype.name))
    if dtype.kind in _KINDS and dtype.itemsize <= (16 if dtype.kind == "c" else 8):
        return f"{dtype.kind}{dtype.itemsize * 8}"
    raise TypeError(f"an array of {dtype} has no afp1; expected numbers or booleans of at most 64 bits")
