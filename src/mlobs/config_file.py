"""The nearest configuration file: `mlobs.toml`, or `pyproject.toml` with a table `[tool.mlobs]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from mlobs.errors import UsageError


class ConfigFile(NamedTuple):
    """A file's settings. `path` is "" if there is no file; `table` is what its keys stand under."""

    path: str = ""
    settings: dict[str, Any] = {}
    table: str = ""


def upwards(folder: str) -> Iterator[str]:
    """Yield the folder and every folder above it, nearest first."""
    while True:
        yield folder
        parent = os.path.dirname(folder)
        if parent == folder:
            return
        folder = parent


def nearest_file(folder: str) -> ConfigFile:
    """Read the nearest file upwards; in one folder `mlobs.toml` goes before `pyproject.toml`.

    Raises:
        UsageError: the file cannot be read, or is not TOML.
    """
    for place in upwards(folder):
        path = os.path.join(place, "mlobs.toml")
        if os.path.isfile(path):
            return ConfigFile(path, _parse(path, _read(path)))
        path = os.path.join(place, "pyproject.toml")
        if os.path.isfile(path) and b"mlobs" in (content := _read(path)):  # spares most projects the parser
            settings = _tool_table(path, _parse(path, content))
            if settings is not None:
                return ConfigFile(path, settings, "tool.mlobs")
    return ConfigFile()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror} - make it readable, or move it away") from error


def _parse(path: str, content: bytes) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error} - mend that line") from error


def _tool_table(path: str, content: dict[str, Any]) -> dict[str, Any] | None:
    tool = content.get("tool")
    settings = tool.get("mlobs") if isinstance(tool, dict) else None
    if settings is not None and not isinstance(settings, dict):
        raise UsageError(f"{path}: tool.mlobs is {settings!r}; expected a table - type: [tool.mlobs]")
    return settings
