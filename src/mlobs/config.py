"""Load the settings: arguments > MLOBS_* > the nearest configuration file > defaults.

In a file, `backends` is a list of names, or tables that name the backends and hold their options:

    mode = "offline"
    [backends.mlflow]
    tracking_uri = "http://127.0.0.1:5000"
    [backends.second]
    type = "mlflow"

In `pyproject.toml` all of it stands under `[tool.mlobs]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlobs.config_file import ConfigFile, nearest_file
from mlobs.errors import UsageError
from mlobs.settings import SETTINGS, Setting, Settings

__all__ = ["SETTINGS", "Setting", "Settings", "load_settings", "working_directory"]

RERUN_VARIABLE = (
    "MLOBS_RERUN_STORE"  # set by `mlobs reproduce`: all is recorded there, whatever the program asks for
)
_PREFIX = "MLOBS_"
_STORE_NAME = ".mlobs"
_RESEMBLANCE = 0.7  # of difflib, 0 to 1: STOR is a typing error of STORE, TEAM is somebody's own variable


class _Found(NamedTuple):
    value: Any
    origin: str


def working_directory() -> Path:
    """The folder that this process is in.

    Raises:
        UsageError: it was deleted.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise UsageError("the working directory was deleted - type: cd to a folder that exists") from error


def load_settings(*, cwd: Path, env: Mapping[str, str], **arguments: Any) -> Settings:
    """Return every setting with its origin; an argument that is None was not given.

    A relative `store` lies in the working directory, that of a file in the file's folder. An empty
    variable counts as not set. `MLOBS_*` variables that resemble no setting are left alone.

    Raises:
        UsageError: a value that its setting does not take, an unknown setting in the arguments or
            the file, a variable that looks like a typing error, a file that cannot be read.

    In a program that `mlobs reproduce` runs again, its own store and mode stand above all.
    """
    folder = cwd.absolute()
    file = nearest_file(folder)
    found = _defaults(folder)
    options: dict[str, dict[str, Any]] = {}
    if file is not None:
        options = _options(file)
        found.update(_of_file(file, options))
    found.update(_of_environment(env))
    found.update(_of_arguments(arguments))
    found.update(_of_rerun(env))
    values = {name: found[name].value for name in SETTINGS}
    values["store"] = folder / values["store"]
    origins = {name: found[name].origin for name in SETTINGS}
    origins.update({f"backends.{name}": str(file.path) for name in options if file})
    return Settings(**values, backend_options=options, origins=origins)


def _defaults(folder: Path) -> dict[str, _Found]:
    found = {name: _Found(setting.default, "default") for name, setting in SETTINGS.items()}
    for place in (folder, *folder.parents):
        store = place / _STORE_NAME
        if store.is_dir():
            found["store"] = _Found(store, f"nearest {_STORE_NAME} upwards")
            break
    return found


def _of_file(file: ConfigFile, options: Mapping[str, Any]) -> dict[str, _Found]:
    import json

    origin = str(file.path)
    _refuse_unknown(file.settings, origin)
    found = {}
    for name, value in file.settings.items():
        setting = SETTINGS[name]
        given = list(options) if name == "backends" and options else value
        remedy = f"{name} = {json.dumps(setting.kind.example)}"
        found[name] = _Found(_checked(setting, given, origin, remedy), origin)
    if "store" in found:
        found["store"] = _Found(file.path.parent / found["store"].value, origin)
    return found


def _options(file: ConfigFile) -> dict[str, dict[str, Any]]:
    """The tables `[backends.NAME]`, by name."""
    tables = file.settings.get("backends")
    if not isinstance(tables, dict):
        return {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            header = ".".join(filter(None, [file.table, "backends", name]))
            raise UsageError(
                f"{header} is {table!r} ({file.path}); expected a table of options - type: [{header}]"
            )
    return tables


def _of_environment(env: Mapping[str, str]) -> dict[str, _Found]:
    own = {name: text for name, text in env.items() if name.startswith(_PREFIX)}
    known = {setting.variable: setting for setting in SETTINGS.values()}
    found = {}
    for variable, text in own.items():
        setting = known.get(variable)
        if setting is None and variable != RERUN_VARIABLE:
            _refuse_resembling(variable)
        elif setting is not None and text.strip():
            origin = f"environment {variable}"
            value = _from_text(setting, text, origin)
            found[setting.name] = _Found(value, origin)
    return found


def _of_rerun(env: Mapping[str, str]) -> dict[str, _Found]:
    """What a repetition records goes into a store of its own, and to nobody else."""
    store = env.get(RERUN_VARIABLE)
    if not store:
        return {}
    settings = {"store": Path(store), "mode": "offline", "repro": "auto", "system_metrics": False}
    return {name: _Found(value, f"environment {RERUN_VARIABLE}") for name, value in settings.items()}


def _from_text(setting: Setting, text: str, origin: str) -> Any:
    example = setting.kind.example
    remedy = f"{setting.variable}={','.join(example) if isinstance(example, list) else example}"
    try:
        value = setting.kind.from_text(text.strip())
    except ValueError:
        value = text  # which `check` refuses, with the words for it
    return _checked(setting, value, origin, remedy)


def _of_arguments(arguments: Mapping[str, Any]) -> dict[str, _Found]:
    _refuse_unknown(arguments, "argument")
    return {
        name: _Found(
            _checked(SETTINGS[name], value, "argument", f"{name}={SETTINGS[name].kind.example!r}"), "argument"
        )
        for name, value in arguments.items()
        if value is not None
    }


def _checked(setting: Setting, value: Any, origin: str, remedy: str) -> Any:
    try:
        return setting.kind.check(value)
    except ValueError as error:
        raise UsageError(
            f"{setting.name} is {value!r} ({origin}); expected {setting.kind.allowed} - type: {remedy}"
        ) from error


def _refuse_unknown(names: Iterable[str], origin: str) -> None:
    for name in names:
        if name not in SETTINGS:
            close = _close(name, SETTINGS)
            hint = f"did you mean {close!r}?" if close else f"known are {', '.join(SETTINGS)}"
            raise UsageError(f"unknown setting {name!r} ({origin}); {hint}")


def _refuse_resembling(variable: str) -> None:
    close = _close(variable.removeprefix(_PREFIX).lower(), SETTINGS)
    if close is not None:
        raise UsageError(
            f"environment variable {variable} is no setting; did you mean {SETTINGS[close].variable}?"
            " - rename or unset it"
        )


def _close(name: str, known: Iterable[str]) -> str | None:
    import difflib

    return next(iter(difflib.get_close_matches(name, known, 1, _RESEMBLANCE)), None)
