"""What could not be recorded: said once with the caller's place, counted, never raised into training."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from mlobs.secrets import masked
from mlobs.values import repr_of, text_of

OnError: TypeAlias = Literal["warn", "raise"]

log = logging.getLogger("mlobs")
_NAMED_KEYS = 3  # in a message about a mapping
_INSIDE = (str(Path(__file__).parent), contextlib.__file__)  # where no caller of ours is


class Troubles:
    """Counts what one run could not record. `on_error="raise"` makes each an exception."""

    def __init__(self, on_error: OnError = "warn") -> None:
        self._on_error = on_error
        self.counts: Counter[str] = Counter()
        self._remarks: set[str] = set()

    def total(self) -> int:
        """How many calls were not recorded."""
        return sum(self.counts.values())

    @contextlib.contextmanager
    def noted(self, call: str, key: object) -> Iterator[None]:
        """Report whatever goes wrong inside, and go on behind it."""
        try:
            yield
        except Exception as error:
            self.report(call, key, error)

    def report(self, call: str, key: object, error: Exception) -> None:
        """Take note of a call that recorded nothing; the first of each (call, key) is warned about.

        Raises:
            Exception: the error itself, with `on_error="raise"`.
        """
        if self._on_error == "raise":
            raise error
        subject = f"{call}({repr_of(key)})"
        self.counts[subject] += 1
        if self.counts[subject] == 1:
            log.warning("%s: %s was not recorded: %s", caller(), masked(subject), masked(text_of(error)))

    def remark(self, call: str, key: object, text: str) -> None:
        """Say something about a call that was recorded, once for each (call, key)."""
        subject = f"{call}({repr_of(key)})"
        if subject not in self._remarks:
            self._remarks.add(subject)
            log.warning("%s: %s %s", caller(), subject, text)


def caller() -> str:
    """File and line of the innermost caller outside of this package."""
    frame = sys._getframe(1)  # noqa: SLF001 - inspect.stack reads source files: milliseconds
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def names_in(mapping: object) -> str:
    """Name the keys of what was to be a mapping, for a message."""
    if not isinstance(mapping, Mapping):
        return type(mapping).__name__
    try:
        keys = list(mapping)
    except Exception:  # somebody's own code, which the call itself will complain of
        return type(mapping).__name__
    names = [key if isinstance(key, str) else repr_of(key) for key in keys[:_NAMED_KEYS]]
    return ", ".join(names) + (", …" if len(keys) > _NAMED_KEYS else "")
