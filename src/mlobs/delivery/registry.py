"""Backends by name, as objects, and as the plain data that travels to the sender."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mlobs.backend import Backend, Capabilities
from mlobs.errors import MissingPackage, UsageError
from mlobs.events import BackendSpec
from mlobs.secrets import Redaction

ENTRY_POINT_GROUP = "mlobs.backends"
BUILT_IN = {  # named here too, so that the usual names cost no scan of all installed packages
    "appinsights": "mlobs.backends.appinsights:AppInsights",
    "azureml": "mlobs.backends.azureml:AzureML",
    "console": "mlobs.backends.console:Console",
    "mlflow": "mlobs.backends.mlflow:MLflow",
    "tensorboard": "mlobs.backends.tensorboard:TensorBoard",
}
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


def resolve(
    backends: Iterable[str | Backend], options: Mapping[str, Mapping[str, Any]], *, travels: bool = True
) -> tuple[Backend, ...]:
    """Make the backends that were named, and check those that were given as objects.

    `options` holds the parameters of a name (its `type` may say which class it is). `travels`:
    they are rebuilt in the sender's process, so their type must be importable there.

    Raises:
        UsageError: an unknown name or parameter, something that is no backend, two of one name.
    """
    if isinstance(backends, str) or not isinstance(backends, Iterable):
        raise UsageError(f"backends is {backends!r}; expected a list, such as [{backends!r}]")
    found = tuple(_named(one, options) if isinstance(one, str) else _checked(one) for one in backends)
    names = [backend.name for backend in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two backends are named {name!r}; give one of them another name=")
    if travels:
        for backend in found:
            _check_importable(type(backend))
            spec_of(backend)
    return found


def spec_of(backend: Backend) -> BackendSpec:
    """Describe a backend as data, secrets included: for the pipe, never for the disk.

    Raises:
        UsageError: a parameter is an object that cannot be written down.
    """
    cls = type(backend)
    params = {field.name: getattr(backend, field.name) for field in _init_fields(cls)}
    for name, value in params.items():
        if not _is_data(value):
            raise UsageError(
                f"backend {backend.name!r}: {name}={value!r} cannot travel to the sender; "
                "give a string, a number or a list of them, or set delivery='thread'"
            )
    return BackendSpec(backend.name, f"{cls.__module__}:{cls.__qualname__}", params)


def can_travel(backend: Backend) -> bool:
    """Tell whether another process, such as `mlobs sync`, can make this backend from its spec."""
    try:
        _check_importable(type(backend))
        spec_of(backend)
    except UsageError:
        return False
    return True


def public_spec(spec: BackendSpec) -> BackendSpec:
    """The spec as it may be written to disk: no secret fields, no user and password in URLs.

    A parameter with a secret in it is left out: the environment or the configuration has it.
    """
    secret = {field.name for field in _init_fields(_load(spec.type)) if field.metadata.get("secret")}
    params = {name: _without_user(value) for name, value in spec.params.items() if name not in secret}
    public = Redaction(environment=os.environ)
    kept = {name: value for name, value in params.items() if public.value(name, value) == value}
    return msgspec.structs.replace(spec, params=kept)


def _without_user(value: Any) -> Any:
    return _USERINFO.sub("", value) if isinstance(value, str) else value


def build(spec: BackendSpec, options: Mapping[str, Mapping[str, Any]] | None = None) -> Backend:
    """Make a backend from its spec; `options` of its name fill in what the spec must not hold.

    Raises:
        UsageError: the type cannot be imported here, or does not take these parameters.
    """
    cls = _load(spec.type)
    known = {field.name for field in _init_fields(cls)}
    more = {name: value for name, value in (options or {}).get(spec.name, {}).items() if name in known}
    return _construct(cls, spec.name, {**spec.params, **more})


def missing_package(backend: Backend) -> MissingPackage | None:
    """Say what to install if the vendor's package is absent; imports nothing."""
    package, extra = getattr(backend, "package", None), getattr(backend, "extra", None)
    if package and extra and not _is_there(package):
        return MissingPackage(package, extra)
    return None


def _is_there(package: str) -> bool:
    """Tell whether a package, perhaps one below others (`azure.monitor`), is installed; imports nothing."""
    first, *inner = package.split(".")
    spec = importlib.util.find_spec(first)
    if spec is None or not inner:
        return spec is not None
    places = spec.submodule_search_locations or ()
    return any(Path(place, *inner).is_dir() for place in places)


def known_names() -> list[str]:
    """Every name that `resolve` takes here."""
    return sorted({*BUILT_IN, *_entry_points()})


def class_of(kind: str, name: str | None = None) -> type:
    """The class of the backends of this kind: a known name, or `module:class`. `name` is for the message.

    Raises:
        UsageError: there is none.
    """
    path = kind if ":" in kind else BUILT_IN.get(kind) or _entry_points().get(kind)
    if path is None:
        import difflib

        close = difflib.get_close_matches(kind, known_names(), n=1)
        hint = f" - did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"backend {name or kind!r} is not known; known are {', '.join(known_names())}{hint}")
    return _load(path)


def _named(name: str, options: Mapping[str, Mapping[str, Any]]) -> Backend:
    params = dict(options.get(name, {}))
    kind = params.pop("type", name)
    cls = class_of(kind, name)
    if kind != name:
        params.setdefault("name", name)
    return _checked(_construct(cls, name, params))


def _construct(cls: type, name: str, params: Mapping[str, Any]) -> Backend:
    known = [field.name for field in _init_fields(cls)]
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise UsageError(f"backend {name!r} has no option {unknown[0]!r}; it takes {', '.join(known)}")
    backend: Backend = cls(**params)
    return backend


def _checked(backend: Any) -> Backend:
    cls = type(backend)
    problem = None
    if isinstance(backend, type):
        problem = f"it is a class - call it: {backend.__name__}()"
    elif not dataclasses.is_dataclass(cls):
        problem = "its class is not a dataclass - decorate it with @dataclass"
    elif not callable(getattr(cls, "deliver", None)):
        problem = "it has no method deliver(batch)"
    elif not callable(getattr(cls, "close", None)):
        problem = "it has no method close()"
    elif not isinstance(getattr(backend, "name", None), str) or not backend.name:
        problem = "its name is not a string"
    elif not isinstance(getattr(backend, "capabilities", None), Capabilities):
        problem = "its capabilities are not a mlobs.backend.Capabilities"
    if problem:
        raise UsageError(f"{backend!r} is no backend: {problem}")
    return backend  # type: ignore[no-any-return]


def _check_importable(cls: type) -> None:
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        raise UsageError(
            f"backend {cls.__qualname__} is defined in {cls.__module__}, where the sender cannot import it; "
            "move it to a module, or set delivery='thread'"
        )


def _is_data(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_data(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_data, value))
    if type(value) is int:
        return -(1 << 63) <= value < 1 << 64  # of MessagePack
    return value is None or type(value) in (bool, float, str, bytes)


def _init_fields(cls: type) -> Sequence[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(cls) if field.init]


def _load(path: str) -> type:
    module, _, name = path.partition(":")
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"backend type {path!r} cannot be imported here: {error}") from error
    return found  # type: ignore[return-value]


def _entry_points() -> dict[str, str]:
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
