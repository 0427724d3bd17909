"""What is equal, less and true in a condition on runs."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Container
from datetime import datetime
from enum import Enum
from typing import Any, Final

from mlobs.errors import UsageError
from mlobs.moments import moment_of


class _Absent(Enum):
    ABSENT = "absent"


ABSENT: Final = _Absent.ABSENT  # a run does not have it: no comparison with it is true, and none is false


_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def truth(value: Any) -> Any:
    """True, False or `ABSENT`; a number is true unless it is 0, a text or list unless it is empty."""
    return value if value is ABSENT else bool(value)


def compared(op: ast.cmpop) -> Callable[[Any, Any], Any] | None:
    """The function of a comparison, None if there is none; it raises TypeError where nothing can be said."""
    if isinstance(op, ast.NotIn):
        return lambda item, group: not _contains(item, group)
    if isinstance(op, ast.In):
        return _contains
    compare = _COMPARISONS.get(type(op))
    return _ordered(compare) if compare is not None else None


def on_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function for numbers alone: text that is multiplied could grow without a bound."""

    def arithmetic(*values: Any) -> Any:
        if not all(isinstance(value, int | float) for value in values):
            raise TypeError("arithmetic is for numbers")
        return function(*values)

    return arithmetic


def comparable(value: Any, *, is_moment: bool = False) -> Any:
    """A value as it is compared: times as Unix seconds.

    Raises:
        UsageError: it is compared with a time and is none.
    """
    if isinstance(value, datetime) or (is_moment and isinstance(value, str)):
        return moment_of(value)
    return value


def _ordered(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def comparison(one: Any, other: Any) -> Any:
        is_moment = isinstance(one, datetime) or isinstance(other, datetime)
        if not is_moment:
            return compare(one, other)
        try:
            return compare(comparable(one, is_moment=True), comparable(other, is_moment=True))
        except UsageError:
            return ABSENT  # a param or tag that is no time

    return comparison


def _contains(item: Any, group: Any) -> bool:
    if isinstance(group, str) and not isinstance(item, str):
        raise TypeError("a text holds texts alone")
    found: Container[Any] = group
    return item in found
