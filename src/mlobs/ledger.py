"""A run's parameters so far, and what a second value for one of them means."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from mlobs.errors import UsageError
from mlobs.events import Params
from mlobs.values import is_same_param

OnConflict: TypeAlias = Literal["keep_first", "overwrite", "raise"]


class Ledger:
    """Decides which parameters are new, which are the same again, and which contradict.

    `known` are those that the run has from before.
    """

    def __init__(self, on_conflict: OnConflict, known: Mapping[str, Any] = MappingProxyType({})) -> None:
        self._on_conflict: OnConflict = on_conflict
        self._known: dict[str, Any] = dict(known)

    def weigh(self, values: Mapping[str, Any]) -> tuple[list[Params], str]:
        """The events to record for these flat, plain values, and a warning, empty if all is well.

        Nothing is known by that: `enter` what was recorded.

        Raises:
            UsageError: a value contradicts an earlier one, and `on_conflict` is "raise".
        """
        fresh = {name: value for name, value in values.items() if name not in self._known}
        changed = {
            name: value
            for name, value in values.items()
            if name not in fresh and not is_same_param(self._known[name], value)
        }
        policy = self._on_conflict
        now = time.time()
        events = [Params(now, fresh)] if fresh else []
        warning = ""
        if changed:
            if policy == "raise":
                raise UsageError(self._contradiction(changed, "on_conflict='raise' refuses it"))
            events.append(Params(now, changed, policy))
            counts = "first" if policy == "keep_first" else "last"
            warning = self._contradiction(
                changed, f"the {counts} counts (on_conflict={policy!r}); both are recorded"
            )
        return events, warning

    def enter(self, event: Params) -> None:
        """Know what was recorded."""
        if event.conflict != "keep_first":
            self._known.update(event.values)

    def _contradiction(self, changed: Mapping[str, Any], verdict: str) -> str:
        name, value = next(iter(changed.items()))
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        return f"param {name!r}{more} was {self._known[name]!r} and is now {value!r}; {verdict}"
