"""The pytest plugin: a tracker for tests. pytest loads it by itself, so it imports nothing too early."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mlobs.testing.backends import MemoryBackend
    from mlobs.tracker import Tracker


@pytest.fixture
def mlobs_backend() -> MemoryBackend:
    """The backend of `mlobs_tracker`, which remembers what it was given."""
    from mlobs.testing.backends import MemoryBackend

    return MemoryBackend()


@pytest.fixture
def mlobs_tracker(
    mlobs_backend: MemoryBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tracker]:
    """A tracker whose runs lie below the test's folder, and go to `mlobs_backend`.

    Variables `MLOBS_*` and configuration files do not count. `mlobs.start_run` and `mlobs.track` use it
    too. A call that cannot record raises. Runs that the test left open are ended.
    """
    from mlobs import api
    from mlobs.program import program
    from mlobs.tracker import Tracker

    for name in [name for name in os.environ if name.startswith("MLOBS_")]:
        monkeypatch.delenv(name)
    store = tmp_path / "mlobs"
    monkeypatch.setenv("MLOBS_STORE", str(store))
    with monkeypatch.context() as there:
        there.chdir(tmp_path)  # where no configuration file is
        tracker = Tracker("tests", backends=[mlobs_backend], delivery="thread", on_error="raise", repro="off")
    monkeypatch.setattr(api, "_default_tracker", lambda: tracker)
    before = set(program().runs)
    yield tracker
    for run_id, opened in list(program().runs.items()):
        if run_id not in before:
            opened.close()
