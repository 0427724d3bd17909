"""What in a model is code and not data: known by its name, or by its bytecode if it has none that lasts."""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mlobs.repro.model_scalars import digest, qualified

_DESCRIPTORS = (
    types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType,
    types.GetSetDescriptorType, types.MemberDescriptorType,
)  # fmt: skip
_CYTHON = ("cython_function_or_method", "fused_cython_function")


class Named(NamedTuple):
    """What stands for a value in the walk: parts by name, and of what sort the value is."""

    kind: str
    parts: Mapping[Any, Any]


def _lineage(cls: Any) -> frozenset[tuple[str, str]]:
    """The classes that a class is of, itself included: (top-level package, name). Nothing is imported."""
    return frozenset((base.__module__.partition(".")[0], base.__name__) for base in cls.__mro__)


lineage: Callable[[Any], frozenset[tuple[str, str]]] = functools.lru_cache(maxsize=4096)(_lineage)


def name_of(value: Any) -> bytes | Named | None:
    """The digest of a class, function, module or member of an enum; None if it is none of these.

    A lambda or a function inside a function has no name that lasts: its bytecode counts, with its
    constants, defaults and the values it closes over. So it compares within one minor version of Python.
    """
    if isinstance(value, enum.Enum):
        return digest("enum", f"{qualified(type(value))}.{value.name or value.value!r}".encode())
    if isinstance(value, type):
        return _name(value)
    if isinstance(value, types.FunctionType):
        return _function(value) if "<" in value.__qualname__ else _name(value)
    if isinstance(value, types.CodeType):
        return Named("code", _code(value))
    if isinstance(value, types.MethodType):
        return Named("method", {"function": value.__func__, "self": value.__self__})
    if isinstance(value, types.BuiltinFunctionType):
        if value.__self__ is None or isinstance(value.__self__, types.ModuleType):
            return _name(value)
        return Named("method", {"function": value.__qualname__, "self": value.__self__})
    return _rare(value)


def _rare(value: Any) -> bytes | Named | None:
    if isinstance(value, _DESCRIPTORS):
        return digest("name", f"{value.__objclass__.__module__}.{value.__qualname__}".encode())
    if isinstance(value, types.ModuleType):
        return digest("name", value.__name__.encode())
    if type(value).__name__ in _CYTHON:
        return _name(value)
    if isinstance(value, functools.partial):
        parts = {"function": value.func, "args": value.args, "keywords": value.keywords}
        return Named(f"partial {qualified(type(value))}", {**parts, **value.__dict__})
    return None


def _name(value: Any) -> bytes:
    return digest("name", qualified(value).encode())


def _function(function: types.FunctionType) -> Named:
    cells = [cell.cell_contents for cell in function.__closure__ or () if not _is_empty(cell)]
    parts = {"code": function.__code__, "closure": cells}
    if function.__defaults__ or function.__kwdefaults__:
        parts |= {"defaults": function.__defaults__, "kwdefaults": function.__kwdefaults__}
    return Named(f"function {function.__module__}", parts)


def _is_empty(cell: types.CellType) -> bool:
    """Whether a name that the function closes over is not bound yet."""
    try:
        return cell.cell_contents is cell
    except ValueError:
        return True


def _code(code: types.CodeType) -> dict[str, Any]:
    """What a function does; not where it stands, nor what its variables are called."""
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return {"bytecode": code.co_code, "consts": code.co_consts, "names": code.co_names, "counts": counts}
