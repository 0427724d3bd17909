"""The nearest configuration file: `mlobs.toml`, or `pyproject.toml` with a table `[tool.mlobs]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

from mlobs.errors import UsageError


class ConfigFile(NamedTuple):
    """A file's settings, and the table that they stand under there ("" at the top)."""

    path: Path
    settings: dict[str, Any]
    table: str = ""


def nearest_file(folder: Path) -> ConfigFile | None:
    """Read the nearest file upwards from an absolute folder; None if there is none.

    In one folder `mlobs.toml` goes before `pyproject.toml`, and settings come from one file alone.

    Raises:
        UsageError: the file cannot be read, or is not TOML.
    """
    for place in (folder, *folder.parents):
        path = place / "mlobs.toml"
        if path.is_file():
            return ConfigFile(path, _parse(path, _read(path)))
        path = place / "pyproject.toml"
        if path.is_file() and b"mlobs" in (content := _read(path)):  # spares most projects the parser
            settings = _tool_table(path, _parse(path, content))
            if settings is not None:
                return ConfigFile(path, settings, "tool.mlobs")
    return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror} - make it readable or move it away"
        ) from error


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error} - correct it or move it away") from error


def _tool_table(path: Path, content: dict[str, Any]) -> dict[str, Any] | None:
    tool = content.get("tool")
    settings = tool.get("mlobs") if isinstance(tool, dict) else None
    if settings is not None and not isinstance(settings, dict):
        raise UsageError(f"{path}: tool.mlobs is {settings!r}; expected a table - type: [tool.mlobs]")
    return settings
