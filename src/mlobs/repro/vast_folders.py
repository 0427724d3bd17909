"""Folders that hold more than there is time to look at: they are known by their name alone."""

from __future__ import annotations

import os
from typing import Any

from mlobs.repro.fingerprint_value import Fingerprint
from mlobs.secrets import masked
from mlobs.values import text_of

MOST_ENTRIES = 2000  # a walk through more takes longer than the call of a tracked function may


def is_vast(data: Any) -> bool:
    """Tell whether it is the path of a folder of more than 2,000 files and folders; no more are looked at."""
    if not isinstance(data, str | os.PathLike):
        return False
    seen = 0
    for _, folders, files in os.walk(os.fsdecode(data)):
        seen += len(folders) + len(files)
        if seen > MOST_ENTRIES:
            return True
    return False


def fingerprint_by_name(path: str | os.PathLike[str]) -> Fingerprint:
    """The fingerprint of what nobody has looked at, which proves nothing."""
    return Fingerprint(f"name:{masked(text_of(os.path.abspath(path)))}", "name")  # noqa: PTH100 - a link stays one
