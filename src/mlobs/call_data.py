"""Which arguments of a tracked function are data, and which of its results are models."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any

from mlobs.values import text_of

_LEAST_ITEMS = 100  # of an array: a shorter one is a setting, and is a param as it stands
_TABLES = frozenset({"pandas", "polars", "pyarrow"})  # packages whose frames and tables are data
_TABLE_NAMES = frozenset({"DataFrame", "Series", "LazyFrame", "Table", "RecordBatch"})
_WRITTEN_TO = re.compile(
    r"(^|[_\W])(outputs?|out|saved?|logs?|logdir|checkpoints?|ckpt|dest|destination|target|store|cache|tmp|temp"
    r"|work|workdir|runs?|results?|export)([_\W]|$)",
    re.IGNORECASE,
)  # words of an argument's name that say that its path is written to, not read

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")  # of outputDir


def datasets_in(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that are data, by name: frames, tables, arrays, and paths of what exists.

    A text is a path if a file or folder of that name exists and it has a separator or a suffix. Arrays of
    up to 100 items are settings. A path whose argument is called like `output_dir` is no dataset.
    What fails to say whether it is data may be: who takes its fingerprint learns why there is none.
    """
    return {name: value for name, value in arguments.items() if _may_be_data(name, value)}


def models_in(result: object) -> dict[str, Any]:
    """Return the estimators and networks that a function returned, by name.

    They are the result itself ("model"), entries of a mapping, or items of a tuple or list, which are
    called "model", "model-2" and so on.
    """
    if isinstance(result, Mapping):
        return {text_of(name): value for name, value in result.items() if _is_model(value)}
    items = result if isinstance(result, tuple | list) else (result,)
    found = [one for one in items if _is_model(one)]
    return {"model" if number == 1 else f"model-{number}": one for number, one in enumerate(found, 1)}


def _may_be_data(name: str, value: object) -> bool:
    try:
        return _is_data(name, value)
    except Exception:  # somebody's own code, such as the shape of a tensor that has none yet
        return True


def _is_data(name: str, value: object) -> bool:
    if isinstance(value, str | os.PathLike):
        return _is_existing_path(name, value)
    if any(_is_table(cls) for cls in type(value).__mro__):
        return True
    shape = getattr(value, "shape", None)
    has_items = (
        isinstance(shape, tuple) and hasattr(value, "dtype") and all(isinstance(n, int) for n in shape)
    )
    return has_items and math.prod(shape or ()) > _LEAST_ITEMS


def _is_table(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in _TABLES and cls.__name__ in _TABLE_NAMES


def _is_existing_path(name: str, value: str | os.PathLike[Any]) -> bool:
    if _WRITTEN_TO.search(_HUMP.sub("_", name)):
        return False
    text = os.fsdecode(value)
    looks_like_one = not isinstance(value, str) or os.sep in text or bool(os.path.splitext(text)[1])  # noqa: PTH122 - texts of any kind
    try:
        return looks_like_one and os.path.exists(text)  # noqa: PTH110 - too long a text is no error there
    except ValueError:  # a text with a null character
        return False


def _is_model(value: object) -> bool:
    """Tell whether it is fitted by `fit`, or a network of torch; a class is neither."""
    try:
        if isinstance(value, type):
            return False
        if callable(getattr(value, "predict", None)):
            return True
        return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "forward", None))
    except Exception:  # somebody's own code: what fails to say so is none
        return False
