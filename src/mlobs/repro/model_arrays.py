"""Digests of arrays inside models: afp1 as `arrays` defines it, by all cores, of numbers alone."""

from __future__ import annotations

import os
import struct
from typing import Any, NamedTuple

from blake3 import blake3

AFP1 = "mlobs afp1"
THREADED_BYTES = 4 << 20  # below, starting threads (0.1 ms) costs more than it saves
MAX_THREADS = 8  # reading memory is the limit then
_KINDS = "iufc"
_BF16_INFINITY, _BF16_NAN = 0x7F80, 0x7FC0
_OF_ML_DTYPES = {"bfloat16": "bf16"}


class TaggedArray(NamedTuple):
    """Numbers that numpy has no dtype for, as unsigned integers of the same bits; `kind` names them."""

    kind: str
    array: Any


def array_digest(array: Any, kind: str | None = None) -> bytes:
    """afp1 of a numeric or boolean numpy array: 32 bytes.

    BLAKE3 with the derivation context "mlobs afp1" over: kind and bits ("f32", "i64", "bool", "bf16"), a zero
    byte, the number of dimensions as u32, each length as u64, and the values in C order; all little endian,
    every NaN the one quiet NaN. `kind` replaces the one of the dtype.

    Raises:
        TypeError: the dtype is not of numbers of a fixed width.
    """
    import numpy as np

    array = np.asarray(array)
    kind = kind or array_kind(array.dtype)
    if kind == "bf16":  # also of ml_dtypes
        array = array.view("<u2")
    head = kind.encode() + b"\0"
    head += struct.pack(f"<I{array.ndim}Q", array.ndim, *array.shape)
    if array.dtype.kind != "V" and array.dtype.byteorder not in "|=<":
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.dtype.kind in "fc":
        array = _with_one_nan(array)
    elif kind == "bf16":
        array = np.where((array & 0x7FFF) > _BF16_INFINITY, _BF16_NAN, array).astype("<u2")
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
    if dtype.kind == "b":
        return "bool"
    if dtype.kind in _KINDS and dtype.itemsize <= (16 if dtype.kind == "c" else 8):
        return f"{dtype.kind}{dtype.itemsize * 8}"
    raise TypeError(f"an array of {dtype} has no afp1; expected numbers or booleans of at most 64 bits")


def _with_one_nan(array: Any) -> Any:
    """The array, a copy of it if there are NaNs of other bits; a sum finds them without a mask."""
    import numpy as np

    with np.errstate(all="ignore"):
        if not np.isnan(array.sum()):
            return array
    copy = np.ascontiguousarray(array).copy()
    flat = copy.reshape(-1).view(copy.real.dtype)
    flat[np.isnan(flat)] = np.nan
    return copy
