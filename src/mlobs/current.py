"""The current run: the one that module-level calls go to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple, Protocol

from mlobs.program import program


class Endable(Protocol):
    """What can be current: something that is open until it ends."""

    @property
    def is_open(self) -> bool:
        """Nobody has ended it yet."""
        ...


class _Link(NamedTuple):
    run: Endable
    outer: _Link | None


_current: ContextVar[_Link | None] = ContextVar("mlobs_current_run", default=None)


def enter(run: Endable) -> None:
    """Make the run current here; `leave` makes the one current again that was."""
    _current.set(_Link(run, _open_link()))


def leave(run: object) -> None:
    """Make the earlier run current again, if this one still is."""
    link = _current.get()
    if link is not None and link.run is run:
        _current.set(link.outer)


def is_innermost(run: object) -> bool:
    """Tell whether the run was the last to be entered here: it is current as long as it is open."""
    link = _current.get()
    return link is not None and link.run is run


def current() -> object:
    """The run that module-level calls go to here, or None.

    That is the run that was opened, or entered by `with`, last in this context; in a thread started
    without a copied context, the process's one open run.
    """
    link = _open_link()
    if link is not None:
        return link.run
    runs = list(program().runs.values())  # other threads open and end theirs meanwhile
    still_open = [one for one in runs if one.is_open and not one.is_child and not one.is_apart]
    return still_open[0].face if len(still_open) == 1 else None


def _open_link() -> _Link | None:
    """The innermost run that is open; others may have ended out of order."""
    link = _current.get()
    while link is not None and not link.run.is_open:
        link = link.outer
    return link
