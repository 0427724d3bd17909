"""For tests of code that uses mlobs, and of backends.

`MemoryBackend` remembers and `FlakyBackend` fails on demand; `BackendContract` are the rules that
every backend keeps, as tests, and needs pytest. The fixture `mlobs_tracker` is there wherever pytest
runs. Names are loaded when they are first used, so pytest starts as fast as without them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlobs.testing.backends import FlakyBackend as FlakyBackend
    from mlobs.testing.backends import MemoryBackend as MemoryBackend
    from mlobs.testing.contract import BackendContract as BackendContract

_HOME = {"BackendContract": "contract", "FlakyBackend": "backends", "MemoryBackend": "backends"}

__all__ = ["BackendContract", "FlakyBackend", "MemoryBackend"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
