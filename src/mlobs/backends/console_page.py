"""Events as lines for people: what is printed, in which words, and what a line of metrics stands for."""

from __future__ import annotations

import io
from typing import Any, Literal, TypeAlias

from rich.console import Console as Renderer
from rich.table import Table
from rich.text import Text

from mlobs.backends.console_screen import Screen
from mlobs.events import (
    Artifact,
    Dataset,
    Event,
    Histogram,
    Log,
    Metrics,
    ModelFingerprint,
    Params,
    Rewind,
    RunFinished,
    RunStarted,
    Snapshot,
    Tags,
    kind_of,
)
from mlobs.moments import date_of
from mlobs.names import SYSTEM_PREFIX
from mlobs.text import duration, param_text, preview, printable, size

Outcome: TypeAlias = tuple[Literal["printed", "lowered", "skipped"], str]  # what became of it, and why

PRINTED: Outcome = ("printed", "")
THROTTLED: Outcome = ("lowered", "a later line stands for it")
OF_LOAD: Outcome = ("skipped", "the program's load is not printed")
OF_OUTPUT: Outcome = ("skipped", "the program has printed it itself")
OF_FACTS: Outcome = ("skipped", "what mlobs notes for itself is not printed")
MOST_CHARACTERS = 200  # of a param; the store has all of it
_INDENT = " " * 9  # as wide as the time in front of a line
_LEVELS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}
_STATUSES = {"FINISHED": "green", "FAILED": "red", "CRASHED": "red", "KILLED": "yellow"}


class Page:
    """The lines of one batch of a run.

    `line_at` and `pending` are as the batch before has left them, and afterwards as this one leaves them:
    when the last line of metrics was, and (step, value) of those that no line has shown since.
    """

    def __init__(
        self,
        name: str,
        started_at: float,
        every_s: float,
        line_at: float | None,
        pending: dict[str, tuple[int, float]],
    ) -> None:
        self.line_at, self.pending = line_at, dict(pending)
        self._name, self._started_at, self._every_s = printable(name), started_at, every_s
        self._lines: list[Text | Table] = []

    def take(self, event: Event) -> Outcome:
        """Add what there is to print of an event, and tell what became of it."""
        match event:
            case Metrics():
                return self._take_metrics(event)
            case Log():
                return self._take_log(event)
            case Params():
                self._say(event.at, "params")
                self._lines.append(_table(event.values))
            case Tags():
                return self._take_tags(event)
            case RunFinished():
                self._say_pending(event.at)
                self._end(event)
            case _:
                self._say(getattr(event, "at", self._started_at), *words(event))
        return PRINTED

    def text(self, screen: Screen) -> str:
        """The lines as they are printed."""
        file = io.StringIO()
        renderer = Renderer(file=file, force_terminal=screen.is_terminal, width=screen.width, highlight=False)
        for line in self._lines:
            renderer.print(line, soft_wrap=isinstance(line, Text))
        return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())

    def _take_metrics(self, event: Metrics) -> Outcome:
        shown = {name: value for name, value in event.values.items() if not name.startswith(SYSTEM_PREFIX)}
        if not shown and event.values:
            return OF_LOAD
        self.pending |= {name: (event.step, value) for name, value in shown.items()}
        if self.line_at is not None and event.at - self.line_at < self._every_s:
            return THROTTLED
        self._say_pending(event.at)
        return PRINTED

    def _say_pending(self, at: float) -> None:
        """Print the last values since the last line, under their steps."""
        steps: dict[int, list[str]] = {}
        for name, (step, value) in self.pending.items():
            steps.setdefault(step, []).append(f"{printable(name)} {value:.6g}")
        for step, values in sorted(steps.items()):
            self._say(at, f"step {step}", *values)
        if steps:
            self.line_at = at
        self.pending.clear()

    def _take_log(self, event: Log) -> Outcome:
        if event.stream in ("stdout", "stderr"):
            return OF_OUTPUT
        source = f"{event.logger}: " if event.logger else ""
        self._say(event.at, f"{event.level} {source}{event.message}", style=_LEVELS.get(event.level, ""))
        if event.exception:
            self._lines.append(_block(event.exception))
        return PRINTED

    def _take_tags(self, event: Tags) -> Outcome:
        own = {name: text for name, text in event.values.items() if not name.startswith("mlobs.")}
        if not own:
            return OF_FACTS
        self._say(event.at, "tags", *(f"{name}={preview_of(text)}" for name, text in own.items()))
        return PRINTED

    def _end(self, event: RunFinished) -> None:
        reason = f": {event.reason}" if event.reason else ""
        lost = event.unrecorded
        calls = "1 call was" if lost == 1 else f"{lost:,} calls were"
        unrecorded = f" - {calls} not recorded" if lost else ""
        took = duration(event.at - self._started_at)
        style = _STATUSES.get(event.status, "")
        self._say(event.at, f"{event.status} after {took}{reason}{unrecorded}", style=style)
        if event.traceback:
            self._lines.append(_block(event.traceback))

    def _say(self, at: float, *parts: str, style: str = "") -> None:
        line = Text(f"{_clock(at)} {self._name}  ", style="dim")
        line.append("  ".join(map(printable, parts)), style=f"not dim {style}".strip())
        self._lines.append(line)


def words(event: Event) -> tuple[str, ...]:
    """An event of a kind that needs no more than a line."""
    match event:
        case RunStarted():
            again = f"attempt {event.attempt}" if event.attempt > 1 else "started"
            return again, f"experiment {event.experiment}", f"run {event.run_id}"
        case Artifact():
            step = () if event.step is None else (f"step {event.step}",)
            return event.role.replace("_", " "), event.path, *step, size(event.size_bytes)
        case Histogram():
            step = () if event.step is None else (f"step {event.step}",)
            return "histogram", event.name, *step, f"{sum(event.counts):,.6g} values"
        case Dataset():
            rows = () if event.rows is None else (f"{event.rows:,} rows",)
            return "dataset", event.name, event.context, *rows, event.version or event.fingerprint
        case Snapshot():
            return "snapshot", event.part, *((f"missing: {event.missing}",) if event.missing else ())
        case ModelFingerprint():
            return "model", event.name, event.fingerprint
        case Rewind():
            return (f"goes back to step {event.from_step}",)
        case _:
            return (kind_of(event),)


def preview_of(value: Any) -> str:
    """A value as text, cut where it gets long."""
    text = param_text(value)
    return text if len(text) <= MOST_CHARACTERS else preview(text, MOST_CHARACTERS, "the store")


def _table(values: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(Text(_INDENT + printable(name)), Text(printable(preview_of(value))))
    return table


def _block(text: str) -> Text:
    """Several lines, such as a traceback, moved in."""
    return Text("\n".join(f"{_INDENT}{printable(line)}" for line in text.rstrip().splitlines()))


def _clock(at: float) -> str:
    return f"{date_of(at).astimezone():%H:%M:%S}"
