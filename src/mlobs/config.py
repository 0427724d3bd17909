"""Settings: arguments > MLOBS_* > the nearest configuration file > defaults; each knows its origin.

The fields of `Settings` are the one table: names, types, defaults, allowed values and words. The
environment variable of a setting is its name in capitals after `MLOBS_`; an empty one counts as not
set. In a file, `backends` is a list of names, or tables that name backends and hold their options:

    mode = "offline"
    [backends.mlflow]
    tracking_uri = "http://127.0.0.1:5000"
    [backends.second]
    type = "mlflow"
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mlobs.config_file import ConfigFile, nearest_file, upwards
from mlobs.errors import UsageError

_PREFIX = "MLOBS_"
_STORE_NAME = ".mlobs"
_ARGUMENT = "argument"
_DEFAULT = "default"


class Kind(NamedTuple):
    """What values a setting takes.

    `check` returns the value in its final form, or raises ValueError; `from_text` is what the
    environment's text is put through first. `allowed` and `example` are for error messages.
    """

    allowed: str
    example: Any
    check: Callable[[Any], Any]
    from_text: Callable[[str], Any] = str


class Setting(NamedTuple):
    """One row of the table of settings."""

    name: str
    about: str
    default: Any
    kind: Kind

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"{_PREFIX}{self.name.upper()}"


def _refuse_unless(holds: bool, value: Any) -> Any:
    if not holds:
        raise ValueError(value)
    return value
