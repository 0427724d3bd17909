"""Columns of Arrow to canonical buffers: what pyarrow, Polars, DuckDB and Parquet files have in common."""

from __future__ import annotations

import math
from typing import Any

from mlobs.errors import MissingPackage, UsageError
from mlobs.repro import canonical
from mlobs.repro.canonical import Array, Buffers, Source
from mlobs.repro.tags import MOMENTS, NULL, TEXTS, Tag, list_of

_NAMES = {"halffloat": "f16", "float": "f32", "double": "f64"}
_DAY_MS = 86_400_000
_MOST_OFFSET = 2**31 - 1


def arrow() -> Any:
    """The package pyarrow.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingPackage("pyarrow", "parquet") from error
    return pa


def source_of_chunked(name: str, column: Any, note: str = "") -> Source:
    """A column of one array of Arrow, or of many."""
    return Source(
        name, tag_of(column.type, name), len(column), lambda start, stop: _part(column, start, stop), note
    )


def _part(column: Any, start: int, stop: int) -> Buffers:
    part = column.slice(start, stop - start)
    if hasattr(part, "num_chunks"):
        part = part.chunk(0) if part.num_chunks == 1 else _joined(part)
    return buffers_of(part)


def _joined(part: Any) -> Any:
    pa = arrow()
    if pa.types.is_dictionary(part.type):  # each chunk may have a dictionary of its own
        part = part.cast(part.type.value_type)
    if part.nbytes > _MOST_OFFSET:
        part = part.cast(_wide(part.type))
    joined = part.combine_chunks()
    return (
        pa.concat_arrays(joined.chunks) if hasattr(joined, "chunks") else joined
    )  # of no chunk, or as an old pyarrow


def _wide(type_: Any) -> Any:
    """The type with offsets of 64 bits: pictures of a chunk's rows take more than those of 32 reach."""
    pa = arrow()
    types = pa.types
    if types.is_binary(type_):
        return pa.large_binary()
    if types.is_string(type_):
        return pa.large_string()
    if types.is_list(type_) or types.is_large_list(type_):
        return pa.large_list(_wide(type_.value_type))
    if types.is_struct(type_):
        return pa.struct([field.with_type(_wide(field.type)) for field in _fields(type_)])
    return type_


# Types


def tag_of(type_: Any, column: str) -> Tag:
    """The canonical type of one of Arrow's.

    Raises:
        UsageError: it has none.
    """
    types = arrow().types
    text = str(type_)
    if types.is_dictionary(type_) or types.is_run_end_encoded(type_):
        return tag_of(type_.value_type, column)
    if types.is_integer(type_):
        return Tag(f"{'u' if text[0] == 'u' else 'i'}{type_.bit_width}")
    if text in _NAMES:
        return Tag(_NAMES[text])
    plain = _plain_tag(types, type_)
    if plain is not None:
        return plain
    if types.is_map(type_):
        entry = (("key", tag_of(type_.key_type, column)), ("value", tag_of(type_.item_type, column)))
        return list_of(Tag("struct", entry))
    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        return list_of(tag_of(type_.value_type, column))
    if types.is_struct(type_):
        fields = tuple((field.name, tag_of(field.type, column)) for field in _fields(type_))
        return Tag("struct", fields)
    if hasattr(type_, "storage_type"):
        return Tag("ext", (("", tag_of(type_.storage_type, column)),), _extension(type_))
    raise UsageError(f"{column} is of Arrow's type {text}, which has no canonical form - cast it to another")


def _plain_tag(types: Any, type_: Any) -> Tag | None:
    if types.is_timestamp(type_):
        return Tag("datetime" if type_.tz is None else "instant")
    if types.is_decimal(type_):
        return Tag("dec", detail=str(type_.scale))
    kinds = (
        ("null", types.is_null), ("bool", types.is_boolean), ("date", types.is_date), ("time", types.is_time),
        ("duration", types.is_duration), ("utf8", types.is_string), ("utf8", types.is_large_string),
        ("bytes", types.is_binary), ("bytes", types.is_large_binary), ("bytes", types.is_fixed_size_binary),
        ("utf8", getattr(types, "is_string_view", _never)),
        ("bytes", getattr(types, "is_binary_view", _never)),
    )  # fmt: skip
    return next((Tag(kind) for kind, is_of in kinds if is_of(type_)), None)


def _never(_type: Any) -> bool:
    return False  # of a pyarrow that does not know views


def _fields(type_: Any) -> list[Any]:
    return [type_.field(at) if hasattr(type_, "field") else type_[at] for at in range(type_.num_fields)]


def _extension(type_: Any) -> str:
    """An extension's name and parameters, as it writes them into Arrow's own metadata."""
    serialized = type_.__arrow_ext_serialize__() if hasattr(type_, "__arrow_ext_serialize__") else b""
    return f"{type_.extension_name}{serialized.decode('utf-8', 'backslashreplace')}"


# Values


def buffers_of(array: Any) -> Buffers:
    """The canonical buffers of one array, whatever part of a longer one it is."""
    types, type_ = arrow().types, array.type
    if types.is_dictionary(type_):
        return buffers_of(array.dictionary_decode())
    if types.is_run_end_encoded(type_):
        from pyarrow import compute

        return buffers_of(compute.run_end_decode(array))  # pyright: ignore[reportAttributeAccessIssue]
    tag = tag_of(type_, "a column")
    if tag.kind == "ext":
        return buffers_of(array.storage)
    if tag == NULL:
        return []
    valid = _valid(array)
    if tag.kind in TEXTS:
        return _texts(array, valid)
    if tag.kind == "list":
        return _lists(array, valid, is_map=types.is_map(type_))
    if tag.kind == "struct":
        children = [one for child in array.flatten() for one in buffers_of(child)]
        return [canonical.validity(valid), *children]
    return _flat(array, tag.kind, valid)


def _flat(array: Any, kind: str, valid: Array | None) -> Buffers:
    text = str(array.type)
    if kind == "bool":
        return canonical.bools(_bits(array, array.buffers()[1]), valid)
    if kind == "dec":
        return _decimals(array, valid)
    if kind == "date":
        days = _raw(array, "<i8") // _DAY_MS if text.startswith("date64") else _raw(array, "<i4")
        return canonical.fixed(days.astype("<i4"), valid)
    if kind in MOMENTS:
        return canonical.moments(
            _raw(array, f"<i{array.type.bit_width // 8}").astype("<i8", copy=False), array.type.unit, valid
        )
    values = _raw(array, f"<{kind[0]}{int(kind[1:]) // 8}")
    return canonical.floats(values, valid) if kind[0] == "f" else canonical.fixed(values, valid)


def _raw(array: Any, dtype: str) -> Array:
    import numpy as np

    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array), dtype)
    return np.frombuffer(buffer, dtype, len(array), array.offset * np.dtype(dtype).itemsize)


def _valid(array: Any) -> Array | None:
    return None if array.null_count == 0 else _bits(array, array.buffers()[0])


def _bits(array: Any, buffer: Any) -> Array:
    import numpy as np

    if buffer is None or not len(array):
        return np.zeros(len(array), bool)
    start, stop = array.offset, array.offset + len(array)
    part = np.frombuffer(buffer, np.uint8, math.ceil(stop / 8) - start // 8, start // 8)
    return np.unpackbits(part, bitorder="little")[start % 8 :][: len(array)].view(bool)


def _texts(array: Any, valid: Array | None) -> Buffers:
    import numpy as np

    pa = arrow()
    text = str(array.type)
    if "view" in text or text.startswith("fixed"):
        array = array.cast(pa.large_string() if text.startswith("string") else pa.large_binary())
    offsets = _offsets(array)
    lengths = np.diff(offsets)
    if valid is not None and lengths[~valid].any():  # there may be anything under a null
        lengths = np.where(valid, lengths, 0)
        array = array.drop_null()
        offsets = _offsets(array)
    buffer = array.buffers()[2]
    size = int(offsets[-1] - offsets[0])
    data = np.frombuffer(buffer, np.uint8, size, int(offsets[0])) if size else canonical.empty()
    return [canonical.validity(valid), lengths.astype("<u4"), data]


def _offsets(array: Any) -> Array:
    import numpy as np

    dtype = np.dtype("<i8" if str(array.type).startswith("large") else "<i4")
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(1, dtype)
    return np.frombuffer(buffer, dtype, len(array) + 1, array.offset * dtype.itemsize)


def _lists(array: Any, valid: Array | None, *, is_map: bool) -> Buffers:
    import numpy as np

    pa = arrow()
    if pa.types.is_fixed_size_list(array.type):
        lengths = np.full(len(array), array.type.list_size)
    else:
        lengths = np.diff(array.offsets.to_numpy()) if len(array) else np.zeros(0, np.int64)
    if valid is not None:
        lengths = np.where(valid, lengths, 0)
        array = array.drop_null()
    head = [canonical.validity(valid), lengths.astype("<u4")]
    if not is_map:
        return [*head, *buffers_of(array.flatten())]
    start, stop = (array.offsets[0].as_py(), array.offsets[-1].as_py()) if len(array) else (0, 0)
    entries = (part.slice(start, stop - start) for part in (array.keys, array.items))
    return [*head, canonical.empty(), *(one for part in entries for one in buffers_of(part))]


def _decimals(array: Any, valid: Array | None) -> Buffers:
    """Two's complement of 32 bytes, whatever the width was."""
    import numpy as np

    words = array.type.bit_width // 64
    if not words:
        array, words = array.cast(arrow().decimal128(38, array.type.scale)), 2
    found = _raw(array, f"V{8 * words}").view("<i8").reshape(-1, words)
    wide = np.empty((len(array), 4), "<i8")
    wide[:, :words] = found
    wide[:, words:] = (found[:, -1] >> 63)[:, None]
    if valid is not None:
        wide[~valid] = 0
    return [canonical.validity(valid), wide.reshape(-1).view(np.uint8)]
