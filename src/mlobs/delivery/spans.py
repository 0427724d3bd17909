"""Which part of each journal was answered for, where copies of a store may both have delivered it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Share: TypeAlias = Literal["new", "known", "mixed"]


@dataclass
class Spans:
    """Stretches of journals, by writer: disjoint, in order, `[begin, until)`."""

    by_writer: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def add(self, writer: str, begin: int, until: int) -> Share:
        """Add a stretch; tell whether all of it is new, all was known, or some of it."""
        spans = self.by_writer.setdefault(writer, [])
        if spans and spans[-1][1] == begin:  # nearly always: one sender goes on where it stopped
            spans[-1] = (spans[-1][0], until)
            return "new"
        if any(one <= begin and until <= other for one, other in spans):
            return "known"
        touching = [span for span in spans if span[0] <= until and begin <= span[1]]
        share: Share = "mixed" if any(one < until and begin < other for one, other in touching) else "new"
        joined = min([begin, *(one for one, _ in touching)]), max([until, *(other for _, other in touching)])
        spans[:] = sorted([*(span for span in spans if span not in touching), joined])
        return share

    def holds(self, key: str) -> bool:
        """Tell whether the event of this key was answered for."""
        writer, _, offset = key.partition("/")[0].rpartition(":")
        return any(one <= int(offset) < other for one, other in self.by_writer.get(writer, ()))
