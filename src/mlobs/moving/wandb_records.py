"""What the records of W&B's client say, as events."""

from __future__ import annotations

import json
import mimetypes
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlobs.events import Artifact, Event, Histogram, Log, Metrics, Params, RunFinished, Tags
from mlobs.moving.source import Payload, Piece
from mlobs.names import SYSTEM_PREFIX

_OWN = "_wandb"
_ROW_FACTS = frozenset({"_step", "_timestamp", "_runtime", _OWN})
_SILENT = frozenset(  # about the client itself, or about how pages draw
    {"header", "footer", "telemetry", "metric", "files", "final", "request", "preempting", None}
)
_MEDIA_ROLES = {"image-file": "image", "table-file": "table"}
_WRITTEN_BY_CLIENT = frozenset({"output.log", "config.yaml", "wandb-summary.json"})  # told by records already


class Decoder:
    """Turns the records of one run, in their order, into events. `left_out` counts what has no form here.

    `folder` is where the files of the record lie. History becomes metrics under dotted names, `stats` those
    of the system, and what the summary has beside the history a metric of the last step.
    """

    def __init__(self, left_out: Counter[str]) -> None:
        self.folder = Path()
        self._left_out = left_out
        self._latest, self._step, self._samples = 0.0, 0, 0
        self._exit: Any = None
        self._names: set[str] = set()
        self._summary: dict[str, float] = {}
        self._lines: dict[str, str] = {}
        self._media: set[Path] = set()

    def decode(self, record: Any) -> Iterator[Piece]:
        """Yield what one record says."""
        kind = record.WhichOneof("record_type")
        match kind:
            case "run":
                yield from self._run(record.run)
            case "config":
                yield from self._params(record.config, self._latest)
            case "history":
                yield from self._history(_document(record.history.item))
            case "summary":
                self._note_summary(_document(record.summary.update))
            case "stats":
                yield from self._stats(record.stats)
            case "output_raw":
                yield from self._output(record.output_raw)
            case "environment":
                yield from self._environment(record.environment)
            case "exit":
                self._exit = record.exit
            case _ if kind not in _SILENT:
                self._left_out[str(kind)] += 1

    def files(self, folder: Path) -> Iterator[Payload]:
        """Yield the files that were saved beside the record."""
        for file in sorted(folder.rglob("*")) if folder.is_dir() else ():
            path = file.relative_to(folder).as_posix()
            if file.is_file() and file not in self._media and path not in _WRITTEN_BY_CLIENT:
                yield self._payload(path, file, "file", None)

    def finish(self, *, is_quiet: bool) -> Iterator[Event]:
        """Yield the last lines, what the summary alone has, and the end, if there is one."""
        for stream, line in self._lines.items():
            if line:
                yield Log(self._latest, line, stream=stream)
        alone = {name: value for name, value in self._summary.items() if name not in self._names}
        if alone:
            yield Metrics(self._latest, self._step, alone)
        if self._exit is not None:
            code = self._exit.exit_code
            status = "FAILED" if code else "FINISHED"
            yield RunFinished(self._latest, status, f"exit code {code}" if code else "", exit_code=code)
        elif is_quiet:
            yield RunFinished(self._latest, "CRASHED", "its record at W&B's client has no end")

    def _run(self, run: Any) -> Iterator[Event]:
        at = self._at(run.start_time)
        texts = {
            "wandb.run_id": run.run_id,
            "wandb.entity": run.entity,
            "wandb.group": run.run_group,
            "wandb.job_type": run.job_type,
            "wandb.notes": run.notes,
            "wandb.sweep_id": run.sweep_id,
            "wandb.tags": ",".join(run.tags),
        }
        yield Tags(at, {name: text for name, text in texts.items() if text})
        yield from self._params(run.config, at)

    def _params(self, config: Any, at: float) -> Iterator[Event]:
        document = _document(config.update)
        document.pop(_OWN, None)
        values = dict(_flat(document))
        if values:
            yield Params(at, values)

    def _environment(self, facts: Any) -> Iterator[Event]:
        texts = {"wandb.program": facts.program, "wandb.host": facts.host}
        texts |= {"wandb.git.commit": facts.git.commit, "wandb.git.remote": facts.git.remote_url}
        if tags := {name: text for name, text in texts.items() if text}:
            yield Tags(self._at(facts.started_at), tags)

    def _history(self, row: dict[str, Any]) -> Iterator[Piece]:
        at = float(row.get("_timestamp") or self._latest)
        step = int(row.get("_step", self._step))
        self._latest, self._step = max(self._latest, at), step
        numbers: dict[str, float] = {}
        for name, value in _flat({name: one for name, one in row.items() if name not in _ROW_FACTS}):
            self._names.add(name)
            number = _number(value)
            if number is not None:
                numbers[name] = number
            elif isinstance(value, dict):
                yield from self._media_of(at, step, name, value)
            else:
                self._left_out[f"values of {name!r} that are no numbers"] += 1
        if numbers:
            yield Metrics(at, step, numbers)

    def _media_of(self, at: float, step: int, name: str, value: Mapping[str, Any]) -> Iterator[Piece]:
        kind = str(value.get("_type", "object"))
        counts, edges = value.get("values"), value.get("bins")
        if kind == "histogram" and isinstance(counts, list) and isinstance(edges, list):
            yield Histogram(at, step, name, [float(one) for one in counts], [float(one) for one in edges])
            return
        file = self.folder / str(value.get("path", ""))
        is_inside = ".." not in file.parts and file.is_relative_to(self.folder) and file.is_file()
        if kind.endswith("-file") and is_inside:
            self._media.add(file)
            yield self._payload(f"{name}{file.suffix}", file, _MEDIA_ROLES.get(kind, "file"), step, at)
        else:
            self._left_out[kind] += 1

    def _payload(
        self, path: str, file: Path, role: str, step: int | None, at: float | None = None
    ) -> Payload:
        media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        at = self._latest if at is None else at
        event = Artifact(at, path, file.stat().st_size, role, media_type, step=step)
        return Payload(event, file, is_temporary=False)

    def _note_summary(self, document: dict[str, Any]) -> None:
        for name, value in _flat({name: one for name, one in document.items() if name not in _ROW_FACTS}):
            number = _number(value)
            if number is not None:
                self._summary[name] = number

    def _stats(self, stats: Any) -> Iterator[Event]:
        values = {}
        for item in stats.item:
            number = _number(_json(item.value_json))
            if number is not None:
                values[SYSTEM_PREFIX + item.key] = number
        if values:
            yield Metrics(self._at(stats.timestamp), self._samples, values)
            self._samples += 1

    def _output(self, output: Any) -> Iterator[Event]:
        """Yield whole lines: what is printed comes in pieces."""
        stream = "stderr" if output.output_type == output.STDERR else "stdout"
        at = self._at(output.timestamp)
        *lines, self._lines[stream] = (self._lines.get(stream, "") + output.line).split("\n")
        for line in lines:
            yield Log(at, line, stream=stream)

    def _at(self, timestamp: Any) -> float:
        at = moment(timestamp) or self._latest
        self._latest = max(self._latest, at)
        return at


def moment(timestamp: Any) -> float:
    """Return a protobuf timestamp as Unix seconds; 0.0 if it is not set."""
    return float(timestamp.seconds + timestamp.nanos / 1e9)


def _document(items: Any) -> dict[str, Any]:
    """Put together what comes item by item, each under a key or a path of keys."""
    document: dict[str, Any] = {}
    for item in items:
        *above, last = list(item.nested_key) or [item.key]
        inner = document
        for key in above:
            below = inner.get(key)
            inner[key] = inner = below if isinstance(below, dict) else {}
        inner[last] = _json(item.value_json)
    return document


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what is nested under dotted names; an object with a type of W&B's stays whole."""
    for key, value in document.items():
        if isinstance(value, dict) and value and "_type" not in value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _number(value: Any) -> float | None:
    """Return a number; W&B's client also writes NaN and infinities as texts."""
    if isinstance(value, bool | int | float):
        return float(value)
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else None
