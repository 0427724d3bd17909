"""One import into a store at a time: two that look for the same run at once would both make it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlobs.errors import UsageError
from mlobs.journal import access, locks


@contextmanager
def turn(store: Path) -> Iterator[None]:
    """Hold the store's lock for imports; the end of the process releases it too. Windows has none.

    Raises:
        UsageError: another import holds it.
    """
    file = access.open_file(store / "importing.lock", os.O_RDWR)
    try:
        try:
            locks.lock(file)
        except BlockingIOError as error:
            raise UsageError(f"another import is writing to {store} - try again when it has ended") from error
        except OSError:
            pass  # no locks here: nobody can take turns
        yield
    finally:
        os.close(file)
