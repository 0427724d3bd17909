"""afp1: one digest of an array or tensor; set1: of several things together.

An array's identity is its type, its shape, and its values in C order: not its strides, its device or
its library. docs/reference/fingerprints.md has the bytes.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from typing import Any

from mlobs.errors import UsageError
from mlobs.events import Strength
from mlobs.repro.canonical import Array, Source
from mlobs.repro.fingerprint_value import Column, Fingerprint
from mlobs.repro.number_arrays import begun, digest_of_numbers, number_kind
from mlobs.repro.numpy_columns import encoder_of
from mlobs.repro.object_columns import encoder_of_objects
from mlobs.repro.tables import column_of, hasher, sized
from mlobs.repro.tags import escaped

_WEAKEST: tuple[Strength, ...] = ("name", "stat", "pinned", "rows", "content")


def fingerprint_of_array(array: Any) -> Fingerprint:
    """The content fingerprint of an array of NumPy, or of a tensor, on whatever device.

    Raises:
        UsageError: its values have no canonical form.
    """
    kind, values = plain_array(array)
    shape = tuple(int(size) for size in values.shape)
    return Fingerprint(
        f"afp1:{_digest_of(kind, values)}",
        "content",
        rows=shape[0] if shape else None,
        size_bytes=int(values.nbytes),
        notes={"type": kind or str(values.dtype), "shape": str(list(shape))},
    )


def array_digest(array: Any) -> str:
    """The 64 hex digits of an array's afp1.

    Raises:
        UsageError: its values have no canonical form.
    """
    return _digest_of(*plain_array(array))


def _digest_of(kind: str, values: Array) -> str:
    if kind or values.dtype.kind in "buifc":
        return digest_of_numbers(values, kind or _type_of(values)).hex()
    if values.dtype.names:
        fields = [(name, values[name]) for name in values.dtype.names]
        tag = ",".join(f"{escaped(name)}:{_type_of(field)}" for name, field in fields)
        one = begun(f"struct<{tag}>", values.shape)
        for _, field in fields:  # one by one: the padding between them is garbage
            one.update(bytes.fromhex(array_digest(field)))
        return str(one.hexdigest())
    column = _as_column(values)
    one = begun(column.tag, values.shape)
    one.update(bytes.fromhex(column.digest))
    return str(one.hexdigest())


def _type_of(values: Array) -> str:
    if values.dtype.kind in "OUSV":
        return str(values.dtype.kind)
    return encoder_of(values.dtype, "the array").tag.text


def _as_column(values: Array) -> Column:
    """Texts, times and objects: their digest as a column of a table, in C order."""
    flat = values.reshape(-1)
    if values.dtype.kind in "UST":
        flat = flat.astype(object)
    if flat.dtype.kind != "O":
        encoder = encoder_of(flat.dtype, "the array")
    elif (found := encoder_of_objects(flat, "the array")) is not None:
        encoder = found
    else:
        raise UsageError("the array holds lists or dicts - fingerprint a pandas.DataFrame of them")
    return column_of(
        Source("", encoder.tag, len(flat), lambda start, stop: encoder.encode(flat[start:stop], None))
    )


def plain_array(array: Any) -> tuple[str, Array]:
    """An array as NumPy's on this machine; the name of its type, where NumPy has none: "bf16".

    Raises:
        UsageError: it has no plain values.
    """
    import numpy as np

    if isinstance(array, np.ma.MaskedArray):
        raise UsageError(
            "a masked array has no one content - fingerprint array.filled(...), or its data and mask"
        )
    if type(array).__module__.partition(".")[0] == "torch" or hasattr(array, "detach"):
        return _of_torch(array)
    try:
        values = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{type(array).__module__}.{type(array).__qualname__} gives NumPy no values ({error}) - "
            "copy it to an array of NumPy first"
        ) from error
    name = values.dtype.name
    if values.dtype.type is np.void:
        return "" if values.dtype.names else name, values
    if (
        values.dtype.type.__module__ == "ml_dtypes"
    ):  # as JAX has them; float8_e5m2 says that it is a plain float
        return number_kind(values.dtype), values.view(f"<u{values.dtype.itemsize}")
    return "", values


def _of_torch(tensor: Any) -> tuple[str, Array]:
    refuse_without_values(tensor)
    tensor = tensor.detach().cpu()
    for method in ("resolve_conj", "resolve_neg"):
        tensor = getattr(tensor, method)()
    name = str(tensor.dtype).removeprefix("torch.")
    if name == "bfloat16" or name.startswith("float8"):
        torch = sys.modules["torch"]  # its tensor is there

        plain = torch.int16 if name == "bfloat16" else torch.uint8
        return _named(name), tensor.contiguous().view(plain).numpy().view(f"u{tensor.element_size()}")
    try:
        return "", tensor.numpy()
    except TypeError as error:  # complex32, packed bits
        raise UsageError(
            f"a tensor of {tensor.dtype} has no canonical form - convert it with .to(...)"
        ) from error


def refuse_without_values(tensor: Any) -> None:
    """Raise UsageError for a tensor of torch that has no plain values."""
    is_strided = str(getattr(tensor, "layout", "torch.strided")) == "torch.strided"
    if not is_strided or getattr(tensor, "is_quantized", False) or getattr(tensor, "is_nested", False):
        raise UsageError(
            "a sparse, nested or quantized tensor has no plain values - "
            "fingerprint tensor.to_dense(), tensor.unbind() or tensor.dequantize()"
        )
    if getattr(tensor, "is_meta", False):
        raise UsageError("a tensor on the device 'meta' has no values - fingerprint the one that is loaded")


def _named(name: str) -> str:
    return {"bfloat16": "bf16"}.get(name, name)


# Several together


def fingerprint_of_set(parts: Mapping[str, Fingerprint], *, is_named: bool) -> Fingerprint:
    """The fingerprint of several: by their names, in whatever order, or by their places.

    A part stands in `columns`, with its scheme and its digest.
    """
    order = sorted(parts, key=str.encode) if is_named else list(parts)
    one = hasher("mlobs set1").update(struct.pack("<BI", is_named, len(order)))
    for name in order:
        one.update(sized(name) + sized(parts[name].text))
    rows = {part.rows for part in parts.values()}
    sizes = [part.size_bytes or 0 for part in parts.values()]
    return Fingerprint(
        f"set1:{one.hexdigest()}",
        next(one for one in _WEAKEST if any(part.strength == one for part in parts.values())),
        rows=rows.pop() if len(rows) == 1 else None,
        size_bytes=sum(sizes),
        columns=tuple(Column(name, *parts[name].text.split(":", 1)) for name in order),
    )


# Sparse matrices


def fingerprint_of_sparse(matrix: Any) -> Fingerprint:
    """The content fingerprint of a matrix of scipy.sparse, the same in each of its formats.

    Zeros that are stored count as those that are not.
    """
    import numpy as np

    rows = matrix.tocsr(copy=True)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    rows.sort_indices()
    kind = f"sparse<{_type_of(rows.data)}>"
    one = begun(kind, rows.shape)
    for part in (rows.indptr.astype(np.int64), rows.indices.astype(np.int64), rows.data):
        one.update(bytes.fromhex(array_digest(part)))
    return Fingerprint(
        f"afp1:{one.hexdigest()}",
        "content",
        rows=int(rows.shape[0]),
        size_bytes=int(rows.data.nbytes + rows.indices.nbytes + rows.indptr.nbytes),
        notes={"type": kind, "shape": str(list(map(int, rows.shape)))},
    )
