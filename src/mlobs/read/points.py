"""Metric values in columns: a million of them without a Python object each."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, compress, islice

import msgspec

from mlobs.events import Metrics, Rewind
from mlobs.names import SYSTEM_PREFIX

_REWIND = -1  # the code of a row that is a Rewind: its step is `from_step`, its value `since`, else NaN
_NAN, _INF = math.nan, math.inf


class Summary(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A metric in short. `min`, `max` and `mean` leave NaN out, and are NaN if there is nothing else."""

    last: float
    last_step: int
    min: float
    max: float
    points: int
    first: float
    mean: float


class Points:
    """Rows of (name, step, value, at) in recorded order; `names` maps a metric's name to its code.

    Several `Points` may share one `names`, so that their rows can be put together. None of them comes
    before the moment `since`, though the writer's clock may have been behind.
    """

    def __init__(self, names: dict[str, int]) -> None:
        self.names = names
        self.since = -math.inf
        self.codes = array("i")
        self.steps = array("q")
        self.values = array("d")
        self.ats = array("d")

    def __len__(self) -> int:
        return len(self.codes)

    def add(self, event: Metrics) -> None:
        """Append a row for each value of the event.

        Raises:
            OverflowError: the step does not fit 64 bits; nothing was appended.
        """
        names = self.names
        for name, value in event.values.items():
            self.steps.append(event.step)
            self.ats.append(event.at)
            self.values.append(value)
            self.codes.append(names.setdefault(name, len(names)))

    def rewind(self, event: Rewind) -> None:
        """Append the mark that some earlier rows no longer count."""
        self.steps.append(event.from_step)
        self.ats.append(event.at)
        self.values.append(_NAN if event.since is None else event.since)
        self.codes.append(_REWIND)

    def last(self) -> dict[str, float]:
        """The value of each metric that was recorded last, by name."""
        values = dict(zip(self.codes, self.values, strict=True))
        return {name: values[code] for name, code in self.names.items() if code in values}

    def summaries(self) -> dict[str, Summary]:
        """Each metric in short, by name."""
        of_codes: dict[int, tuple[list[float], list[int]]] = {}
        for code, step, value in zip(self.codes, self.steps, self.values, strict=True):
            found = of_codes.get(code)
            if found is None:
                found = of_codes[code] = ([], [])
            found[0].append(value)
            found[1].append(step)
        return {name: _summary(*of_codes[code]) for name, code in self.names.items() if code in of_codes}

    def next_steps(self) -> dict[str, int]:
        """The step behind the greatest one of each metric, by name."""
        greatest: dict[int, int] = {}
        for code, step in zip(self.codes, self.steps, strict=True):
            if step >= greatest.get(code, step):
                greatest[code] = step
        return {name: greatest[code] + 1 for name, code in self.names.items() if code in greatest}

    def of_training(self) -> Points:
        """The rows without those of the program's load."""
        system = self._system_codes()
        return self._take(mask=[code not in system for code in self.codes]) if system else self

    def before(self, rewind: Rewind) -> Points:
        """The rows that still count once the run has gone back; the program's load does not go back."""
        since = _INF if rewind.since is None else rewind.since
        system = self._system_codes()
        rows = zip(self.codes, self.steps, self.ats, strict=True)
        return self._take(
            mask=[code in system or (step < rewind.from_step and at <= since) for code, step, at in rows]
        )

    def part(self, start: int, stop: int) -> Points:
        """The rows from `start` on, and before `stop`."""
        taken = Points(self.names)
        for column in ("codes", "steps", "values", "ats"):
            setattr(taken, column, getattr(self, column)[start:stop])
        return taken

    def _system_codes(self) -> set[int]:
        return {code for name, code in self.names.items() if name.startswith(SYSTEM_PREFIX)}

    def _take(self, rows: Sequence[int] | None = None, mask: Sequence[bool] | None = None) -> Points:
        taken = Points(self.names)
        for column in ("codes", "steps", "values", "ats"):
            source = getattr(self, column)
            chosen = compress(source, mask) if mask is not None else map(source.__getitem__, rows or ())
            setattr(taken, column, array(source.typecode, chosen))
        return taken


def _summary(values: Sequence[float], steps: Sequence[int]) -> Summary:
    numbers = [value for value in values if value == value]  # noqa: PLR0124 - NaN alone differs from itself
    least, greatest = min(numbers, default=_NAN), max(numbers, default=_NAN)
    return Summary(values[-1], steps[-1], least, greatest, len(values), values[0], _mean(numbers))


def _mean(numbers: Sequence[float]) -> float:
    if not numbers:
        return _NAN
    try:
        return math.fsum(numbers) / len(numbers)
    except (OverflowError, ValueError):  # an infinity of either sign is among them, or the sum is one
        return sum(numbers) / len(numbers)


def that_count(of_writers: Sequence[Points]) -> Points:
    """Put the rows of a run's writers together by time and drop what was rewound.

    The order of one writer's rows never changes, also where its clock was set back; rows of the
    same moment follow the order of `of_writers`.
    """
    points = of_writers[0] if len(of_writers) == 1 else _merged(of_writers)
    if _REWIND not in points.codes:
        return points
    return points._take(mask=_not_rewound(points))  # noqa: SLF001 - the module's own


def with_superseded(of_writers: Sequence[Points]) -> tuple[Points, list[bool]]:
    """Put the rows together as `that_count` does, keep all, and tell of each whether it was rewound."""
    points = of_writers[0] if len(of_writers) == 1 else _merged(of_writers)
    if _REWIND not in points.codes:
        return points, [False] * len(points)
    counts = _not_rewound(points)
    is_point = [code != _REWIND for code in points.codes]
    superseded = [not one for one in compress(counts, is_point)]
    return points._take(mask=is_point), superseded  # noqa: SLF001 - the module's own


def _merged(of_writers: Sequence[Points]) -> Points:
    merged = Points(of_writers[0].names)
    for points in of_writers:
        merged.codes += points.codes
        merged.steps += points.steps
        merged.values += points.values
        merged.ats += points.ats
    times = array("d", chain.from_iterable(_times(points) for points in of_writers))
    return merged._take(rows=sorted(range(len(times)), key=times.__getitem__))  # noqa: SLF001 - the module's own


def _times(points: Points) -> Iterator[float]:
    return islice(accumulate(points.ats, max, initial=points.since), 1, None)


def _not_rewound(points: Points) -> list[bool]:
    """Tell for each row whether it counts: walk back, and remember how far was gone back since.

    The program's load counts whatever training took back: it is counted by samples, not by its steps.
    """
    system = points._system_codes()  # noqa: SLF001 - the module's own
    mask = [code in system for code in points.codes]
    lowest, earliest = _INF, _INF
    for row in range(len(points) - 1, -1, -1):
        if points.ats[row] > earliest:
            continue  # a rewind that was itself taken back takes nothing back
        step = points.steps[row]
        if points.codes[row] != _REWIND:
            mask[row] = mask[row] or step < lowest
            continue
        lowest = min(lowest, step)
        since = points.values[row]
        if since == since:  # noqa: PLR0124 - NaN alone differs from itself
            earliest = min(earliest, since)
    return mask
