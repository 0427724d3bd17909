"""What of numpy is inside models: arrays of every sort, scalars, dtypes, sources of random numbers."""

from __future__ import annotations

import struct
from typing import Any

from mlobs.repro.model_names import Named, lineage
from mlobs.repro.model_scalars import digest
from mlobs.repro.number_arrays import digest_of_numbers


def numpy_way(value: Any) -> bytes | Named | None:
    """The digest of something of numpy, or what it is made of; None if it is not of numpy."""
    of = lineage(type(value))
    if ("numpy", "MaskedArray") in of:
        filled = value.filled(0) if value.dtype.names is None else value.filled()
        return Named("masked", {"data": filled, "mask": _mask(value), "fill_value": value.fill_value})
    if ("numpy", "ndarray") in of or ("numpy", "generic") in of:
        return _array(value)
    if ("numpy", "dtype") in of:
        return _dtype(value)
    if ("numpy", "ufunc") in of:
        return digest("name", f"ufunc {value.__name__}".encode())
    if ("numpy", "RandomState") in of:
        return Named("random", value.get_state(legacy=False))
    if ("numpy", "Generator") in of:
        return Named("random", value.bit_generator.state)
    if ("numpy", "BitGenerator") in of:
        return Named("random", value.state)
    return None


def _dtype(value: Any) -> bytes | Named:
    if value.subdtype:  # of several numbers each: its own text says only how many bytes they take
        return Named("subarray", {"dtype": value.base, "shape": value.shape})
    return digest("dtype", (repr(value.descr) if value.names else value.str).encode())


def _mask(value: Any) -> Any:
    import numpy as np

    return np.ma.getmaskarray(value)


def _array(value: Any) -> bytes | Named:
    import numpy as np

    array = np.asarray(value)
    if array.dtype.names:  # field by field: the bytes between fields are never written
        return Named("record", {name: array[name] for name in array.dtype.names})
    match array.dtype.kind:
        case "O":
            return Named("objects", {"shape": array.shape, "values": array.ravel().tolist()})
        case "U" | "S":
            return _strings(array)
        case "T":
            return (
                _strings(array)
                if all(type(one) is str for one in array.flat)
                else _array(array.astype(object))
            )
        case "M" | "m":
            unit = array.dtype.str[1:].encode()
            return digest("time", unit + b"\0" + digest_of_numbers(array.view(array.dtype.str[0] + "i8")))
        case _ if array.dtype.type is np.void:
            return Named("void", {"shape": array.shape, "bytes": array.tobytes()})
    return digest_of_numbers(array)


def _strings(array: Any) -> bytes:
    """Texts or bytes, whatever the width that numpy gave them."""
    body = [struct.pack(f"<I{array.ndim}Q", array.ndim, *array.shape)]
    for one in array.ravel().tolist():
        text = one if isinstance(one, bytes) else one.encode("utf-8", "surrogatepass")
        body.append(struct.pack("<I", len(text)) + text)
    return digest("byte strings" if array.dtype.kind == "S" else "strings", b"".join(body))
