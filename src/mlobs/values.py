"""Users' values to plain ones: numpy, torch, pandas and configs by duck typing; nothing is imported."""

from __future__ import annotations

import datetime as dt
import enum
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from mlobs.errors import UsageError
from mlobs.fields import fields_of

_SHORT_CHARACTERS = 80  # of a value that a message quotes
_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1  # what MessagePack holds


class Extent(NamedTuple):
    """How much of a value is taken over: what lies deeper, or is longer, is described.

    `is_whole`: all of an array is, and what lies deeper is refused. `describe` puts into words what
    JSON does not know, without it `repr` does.
    """

    depth: int
    array_items: int
    describe: Callable[[object], str] | None = None
    is_whole: bool = False


PARAM = Extent(16, 100)  # deeper configs are cycles, or nobody reads their names; a longer array is data


def scalar(name: object, value: object) -> float:
    """The value as a float: a number, or anything with `.item()` and size 1.

    Raises:
        UsageError: it is no scalar; the message says what to log instead.
    """
    if isinstance(value, float):
        return float(value)
    item = getattr(value, "item", None)
    if callable(item):
        shape = getattr(value, "shape", ())
        if math.prod(shape) != 1:
            raise UsageError(
                f"metric {name!r} is {_type_name(value)} of shape {tuple(shape)}; "
                "expected a scalar - log value.mean() or an artifact"
            )
        value = item()
    if isinstance(value, str | bytes | complex) or value is None:
        raise UsageError(
            f"metric {name!r} is {_short(value)}; expected a number - log_param or set_tag take text"
        )
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError as error:
        raise UsageError(
            f"metric {name!r} is {_short(value)}, beyond the largest float (1.8e308); "
            "log its logarithm, or use log_param"
        ) from error
    except (TypeError, ValueError) as error:
        raise UsageError(f"metric {name!r} is {_short(value)}; expected a number") from error


def name_of(key: object) -> str:
    """The key as a name: a string that is not empty (of any subclass), of any characters.

    Raises:
        UsageError: it is not.
    """
    if isinstance(key, str) and key:
        return unicode_of(key)
    raise UsageError(f"a name is {_short(key)}; expected a string that is not empty")


def tag_name_of(key: object) -> str:
    """The key as the name of a tag.

    Raises:
        UsageError: it is no name, or one of mlobs' own tags, by which runs are found again.
    """
    name = name_of(key)
    if name.startswith("mlobs."):
        raise UsageError(f"tag {name!r} is mlobs' own; choose a name that does not begin with 'mlobs.'")
    return name


def step_number(step: object) -> int:
    """The step as an int: an integer of any library, or a float that is whole.

    Raises:
        UsageError: it is not a whole number, or beyond 64 bits.
    """
    if isinstance(step, float) and step.is_integer():
        return _within_64_bits(int(step))
    try:
        return _within_64_bits(operator.index(step))  # type: ignore[arg-type]
    except TypeError:
        pass  # not an integer by itself: perhaps a tensor of size 1
    item = getattr(step, "item", None)
    if callable(item) and math.prod(getattr(step, "shape", ())) == 1:
        return step_number(item())
    raise UsageError(f"step is {_short(step)}; expected an integer")


def _within_64_bits(step: int) -> int:
    if -(1 << 63) <= step < 1 << 63:
        return step
    raise UsageError(f"step is {_short(step)}; expected one within 64 bits, -2**63 to 2**63 - 1")


def optional_step(step: object) -> int | None:
    """The step as an int, None if there is none.

    Raises:
        UsageError: it is not a whole number.
    """
    return None if step is None else step_number(step)


def flatten(params: object) -> list[dict[str, Any]]:
    """Nested mappings, dataclasses and config objects as a dict of dotted names to plain values.

    Another dict follows with the values of names that come again, such as of `{"a.b": 1, "a": {"b": 2}}`.

    Raises:
        UsageError: the outermost value is not a mapping or a config object.
    """
    fields = fields_of(params)
    if fields is None:
        raise UsageError(f"params is {_short(params)}; expected a mapping, such as {{'lr': 0.1}}")
    found: list[dict[str, Any]] = [{}]
    for name, value in _flat(fields, "", (id(params),)):
        free = next((one for one in found if name not in one), None)
        if free is None:
            found.append(free := {})
        free[name] = value
    return found


def meta_of(meta: object) -> dict[str, Any] | None:
    """The small mapping of the caller's own as an event keeps it.

    Raises:
        UsageError: it is not a mapping.
    """
    if meta is None:
        return None
    if not isinstance(meta, Mapping):
        raise UsageError(f"meta is {_short(meta)}; expected a mapping, such as {{'fold': 3}}")
    return {text_of(key): plain(value) for key, value in meta.items()}


def plain(value: object, above: tuple[int, ...] = (), extent: Extent = PARAM) -> Any:
    """The value as JSON knows it, or the text that describes it best.

    `above` holds the ids of the objects that the value stands in.

    Raises:
        UsageError: it is nested deeper than the extent, and that does not describe what is left out.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value, above, extent)
    if isinstance(value, str):
        return unicode_of(value)
    if isinstance(value, int):
        return int(value) if _MIN_INT <= value <= _MAX_INT else repr_of(int(value))
    if isinstance(value, float):
        return float(value)
    is_deep = len(above) > extent.depth
    if is_deep and extent.is_whole:
        raise UsageError(f"a value is nested deeper than {extent.depth} levels; save it as a file of its own")
    if is_deep or id(value) in above:
        return f"<{_type_name(value)}, not shown again>"
    try:
        return _plain_collection(value, (*above, id(value)), extent)
    except UsageError:
        raise
    except Exception:
        return unicode_of(repr_of(value))  # somebody's own code failed


def unicode_of(text: str) -> str:
    r"""The text, with what is no character (bytes of a file's name that are not UTF-8) as `\udcff`."""
    if text.isascii():
        return str.__str__(text)  # of an enum that is a str too, its value
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def text_of(value: object) -> str:
    """The value as text: of an enum its value, of what fails to say, its repr."""
    if isinstance(value, enum.Enum):
        value = value.value
    try:
        return unicode_of(str(value))
    except Exception:
        return unicode_of(repr_of(value))  # which says what failed


def repr_of(value: object) -> str:
    """The object's repr, or what its repr fails with."""
    try:
        return repr(value)
    except Exception as error:
        return f"<{_type_name(value)} whose repr fails: {type(error).__name__}>"


def is_same_param(one: object, other: object) -> bool:
    """Tell whether two plain values mean the same parameter: `7` and `7.0` do, `7` and `"7"` too."""
    if one == other:
        return True
    if isinstance(one, float | int) and isinstance(other, float | int):
        return math.isnan(one) and math.isnan(other)
    return str(one) == str(other)


def _flat(fields: Mapping[Any, Any], prefix: str, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    for key, value in fields.items():
        name = f"{prefix}{text_of(key)}"
        nested = fields_of(value) if len(above) < PARAM.depth and id(value) not in above else None
        if nested:
            yield from _flat(nested, f"{name}.", (*above, id(value)))
        else:
            yield name, _plain_or_repr(value, above)


def _plain_or_repr(value: object, above: tuple[int, ...]) -> Any:
    """The value as a param; of a proxy that fails to say what it stands for, its repr."""
    try:
        return plain(value, above)
    except Exception:
        return unicode_of(repr_of(value))


def _plain_collection(value: object, above: tuple[int, ...], extent: Extent) -> Any:
    fields = fields_of(value)
    if fields is not None:
        return {text_of(key): plain(one, above, extent) for key, one in fields.items()}
    if isinstance(value, list | tuple | set | frozenset | range):
        ordered: Iterable[object] = (
            sorted(value, key=repr_of) if isinstance(value, set | frozenset) else value
        )
        return [plain(one, above, extent) for one in ordered]
    return _plain_object(value, above, extent)


def _plain_object(value: object, above: tuple[int, ...], extent: Extent) -> Any:
    if isinstance(value, PurePath):
        return unicode_of(str(value))
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return f"{value.__module__}.{value.__qualname__}"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        if hasattr(value, "tolist") and (extent.is_whole or math.prod(shape) <= extent.array_items):
            return plain(_listed(value), above, extent)
        return f"{_type_name(value)}{list(shape)}"
    return unicode_of((extent.describe or repr_of)(value))


def _listed(array: Any) -> Any:
    """The items of an array; NumPy's own moments as ISO 8601, which its `tolist` makes numbers of."""
    return (array.astype(str) if getattr(array.dtype, "kind", "") == "M" else array).tolist()


def _short(value: object) -> str:
    text = " ".join(repr_of(value).split())  # in one line
    if len(text) > _SHORT_CHARACTERS:
        text = f"{text[: _SHORT_CHARACTERS - 1]}…"
    return f"{_type_name(value)} {text}"


def _type_name(value: object) -> str:
    return type(value).__qualname__
