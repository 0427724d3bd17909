"""For tests of code that uses mlobs: backends that remember, and backends that fail on demand."""

from mlobs.testing.backends import FlakyBackend, MemoryBackend

__all__ = ["FlakyBackend", "MemoryBackend"]
