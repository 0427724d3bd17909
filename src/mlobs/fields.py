"""The fields of mappings and config objects, whatever library they are of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


def fields_of(value: object) -> Mapping[Any, Any] | None:
    """The fields of a mapping or config object; None for anything else, or if it fails to give them.

    Of a field that alone fails, such as one that a config declares and nobody has set, it is said with what.
    """
    try:
        fields = _fields(value)
        return fields if fields is None or type(fields) is dict else _readable(fields)
    except Exception:
        return None  # somebody's own code; its repr describes the object then


def _readable(fields: Mapping[Any, Any]) -> dict[Any, Any]:
    try:
        return dict(fields.items())
    except Exception:
        return {key: _value(fields, key) for key in fields}


def _value(fields: Mapping[Any, Any], key: Any) -> Any:
    try:
        return fields[key]
    except Exception as error:
        return f"<not to be read: {type(error).__name__}>"


def _fields(value: object) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())  # pyright: ignore[reportAttributeAccessIssue] - a named tuple, by duck typing
    if type(value).__module__ == "argparse" and type(value).__name__ == "Namespace":
        return vars(value)
    for method in ("model_dump", "to_dict"):  # pydantic; transformers and many config classes
        dump = getattr(value, method, None)
        if callable(dump) and not hasattr(value, "shape"):
            dumped = dump()
            return dumped if isinstance(dumped, Mapping) else None
    attributes = getattr(type(value), "__attrs_attrs__", None)
    if attributes is not None:
        return {attribute.name: getattr(value, attribute.name) for attribute in attributes}
    return None
