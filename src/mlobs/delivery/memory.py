"""What lowering answers for one event, and what it has to remember between events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec

from mlobs.backend import Capabilities
from mlobs.events import Event


class Lowering(msgspec.Struct, frozen=True):
    """What a backend gets for one event; what stands for the event itself comes first.

    "native": the very same event. "lowered": other events, for the reason given. "skipped":
    nothing, for the reason given. Reasons name names but no steps and no values of metrics, so that
    a run has few of them.
    """

    events: tuple[Event, ...]
    outcome: Literal["native", "lowered", "skipped"] = "native"
    reason: str = ""


@dataclass(slots=True)
class Memory:
    """What lowering remembers of one run for one backend; its capabilities must stay the same.

    It is built anew by lowering the run's earlier events again and ignoring what comes out; Metrics
    may be left out of that: a name may then be announced twice, with the same words. Lowering an
    event twice in a row, because its batch was refused, gives the same events both times.

    Args:
        fine: names that the backend takes as they are.
        renamed: names that it does not take, and what they are there.
        firsts: the time (`at`) of the event that a tag of mlobs' own was first written for.
        full: by kind ("params", "tags"), the whole values that the backend holds previews of.
        placed: by kind, the names that have a place at a backend whose room is limited.
        documents: by path, without the ending, and step of a JSON file, the hash of what stands there.
        rewinds: the words about each rewind so far, by its time.
    """

    fine: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    firsts: dict[str, float] = field(default_factory=dict)
    full: dict[str, dict[str, Any]] = field(default_factory=lambda: {"params": {}, "tags": {}})
    placed: dict[str, set[str]] = field(default_factory=lambda: {"params": set(), "tags": set()})
    documents: dict[tuple[str, int | None], bytes] = field(default_factory=dict)
    rewinds: dict[float, str] = field(default_factory=dict)

    def is_first(self, tag: str, at: float) -> bool:
        """Tell whether the event of this time is the one that the tag is written for."""
        return self.firsts.setdefault(tag, at) == at


Rule: TypeAlias = Callable[[Any, Capabilities, Memory], Lowering]
