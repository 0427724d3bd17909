"""For tests of code that uses mlobs, and of backends.

`MemoryBackend` remembers and `FlakyBackend` fails on demand; `BackendContract` are the rules that
every backend keeps, as tests. It needs pytest, so it is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlobs.testing.backends import FlakyBackend, MemoryBackend

if TYPE_CHECKING:
    from mlobs.testing.contract import BackendContract as BackendContract

__all__ = ["BackendContract", "FlakyBackend", "MemoryBackend"]


def __getattr__(name: str) -> Any:
    if name != "BackendContract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mlobs.testing.contract import BackendContract

    return BackendContract
