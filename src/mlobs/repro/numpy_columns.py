"""Columns of NumPy's types to canonical buffers; NumPy alone is needed."""

from __future__ import annotations

from typing import Any, NamedTuple

from mlobs.errors import UsageError
from mlobs.repro import canonical
from mlobs.repro.canonical import Encode
from mlobs.repro.tags import Tag


class Encoder(NamedTuple):
    """A canonical type, and how values of it become buffers."""

    tag: Tag
    encode: Encode


def encoder_of(dtype: Any, column: str) -> Encoder:
    """How values of a dtype of NumPy are encoded.

    Raises:
        UsageError: the dtype has no canonical form.
    """
    kind, bits = dtype.kind, 8 * dtype.itemsize
    if kind == "b":
        return Encoder(Tag("bool"), canonical.bools)
    if kind in "iu":
        return Encoder(Tag(f"{kind}{bits}"), canonical.fixed)
    if kind == "f" and bits in (16, 32, 64):
        return Encoder(Tag(f"f{bits}"), canonical.floats)
    if kind == "c" and bits in (64, 128):
        return Encoder(Tag(f"c{bits}"), canonical.complexes)
    if kind == "M":
        return Encoder(Tag("datetime"), canonical.numpy_moments)
    if kind == "m":
        return Encoder(Tag("duration"), canonical.numpy_moments)
    raise UsageError(
        f"{column} is of dtype {dtype}, which has no canonical form - "
        "convert it, for example with astype('float64')"
    )
