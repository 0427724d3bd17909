"""Which call recorded what: two calls of one name may mean the same artifact, and the last would count."""

from __future__ import annotations


class Calls:
    """Remembers for each path which calls recorded it, and over which steps: a few bytes a path."""

    def __init__(self) -> None:
        self._spans: dict[tuple[str, bool], dict[str, tuple[int, int]]] = {}

    def other(self, path: str, step: int | None, call: str) -> str | None:
        """Take note of a path and step; return another call that recorded them before, if one did.

        Steps are remembered as a span: one that a call left out counts as recorded by it.
        """
        number = 0 if step is None else step
        spans = self._spans.setdefault((path, step is None), {})
        low, high = spans.get(call, (number, number))
        spans[call] = (min(low, number), max(high, number))
        others = (name for name, (first, last) in spans.items() if name != call and first <= number <= last)
        return next(others, None)
