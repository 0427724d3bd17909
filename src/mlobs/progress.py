"""A progress bar for a person at a terminal, who waits; nothing for anybody else."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

SHOW_AFTER_S = 0.5  # most waits are over by then; a bar that flashes up tells nobody anything


def is_terminal() -> bool:
    """Tell whether a person reads; programs put all kinds of things where `sys.stderr` was."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # None or somebody's own class; closed
        return False


@contextlib.contextmanager
def progress(title: str, total: float) -> Iterator[Callable[[float], None]]:
    """Give what to call with how much of `total` is done, for a bar on a terminal.

    It appears once a wait is worth showing, and is gone afterwards.
    """
    if not is_terminal():
        yield lambda _done: None
        return
    started = time.monotonic()
    with contextlib.ExitStack() as until_the_end:
        bars: list[Progress] = []

        def show(done: float) -> None:
            if not bars and time.monotonic() - started > SHOW_AFTER_S:
                bars.append(until_the_end.enter_context(_bar(title, total)))
            for bar in bars:
                bar.update(bar.task_ids[0], completed=done, refresh=True)

        yield show


def _bar(title: str, total: float) -> Progress:
    """Make a bar that moves when it is told: at the program's exit no thread could be started for it."""
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True, auto_refresh=False)
    bar.add_task(title, total=total)
    return bar
