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
                bars.append(_bar(title, total))
                until_the_end.enter_context(_quiet(bars[0]))
            for bar in bars:
                with contextlib.suppress(OSError):  # the terminal is gone; who works behind the bar is not
                    bar.update(bar.task_ids[0], completed=done, refresh=True)

        yield show


@contextlib.contextmanager
def _quiet(bar: Progress) -> Iterator[None]:
    """Start and stop a bar; a terminal that is gone is no reason for anybody to fail."""
    with contextlib.suppress(OSError):
        bar.start()
    yield
    with contextlib.suppress(OSError):
        bar.stop()


def _bar(title: str, total: float) -> Progress:
    """Make a bar that moves when it is told: at the program's exit no thread could be started for it."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    bar = Progress(
        console=console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    )
    bar.add_task(title, total=total)
    return bar
