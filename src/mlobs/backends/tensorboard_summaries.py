"""Events as TensorBoard's protobufs: one Event each, wall time = the event's time, so bytes repeat."""

# protobuf makes its classes at run time: pyright cannot know them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.text import metadata as text_metadata

from mlobs.backend import Batch, Entry
from mlobs.backends.tensorboard_facts import (
    Facts,
    code_span,
    hparams_end,
    markdown_table,
    own_value,
)
from mlobs.errors import DeliveryError
from mlobs.events import (
    Artifact,
    Histogram,
    Log,
    Metrics,
    Params,
    Rewind,
    RunFinished,
    RunStarted,
    Tags,
    kind_of,
)
from mlobs.text import log_line

# A tag belongs to one dashboard: the suffixes (those of TensorFlow's and PyTorch's writers) keep a
# text or histogram from taking the name of a metric, which would then never be drawn.
TEXT, HISTOGRAM, IMAGE = "/text_summary", "/histogram_summary", "/image_summary"
FINISHED_TAG = "_mlobs_/run_finished"
FLOAT32_MAX = 3.4028234663852886e38  # IEEE 754 binary32
MAX_TEXT_BYTES = 1 << 18  # the browser renders each text as a whole; more hangs the dashboard's tab
MAX_LOG_CHARACTERS = 1 << 16  # of one text: a few screens
MAX_IMAGE_BYTES = 1 << 22  # TensorBoard's checksum is pure Python: 0.5 s for 4 MiB
RUN_FACTS = (
    "run_id",
    "experiment",
    "name",
    "parent_run_id",
    "attempt",
    "resumed_from",
    "rank",
    "world_size",
    "mlobs_version",
    "python_version",
    "argv",
)
STATUS = {"FINISHED": api_pb2.STATUS_SUCCESS, "RUNNING": api_pb2.STATUS_RUNNING}


@dataclass
class Encoder:
    """Turns one batch into TensorBoard's Events; `rejected` and `lowered` fill while it is iterated.

    `facts` are the run's params and tags after the batch; `log_lines` counts its log events so far.
    """

    batch: Batch
    facts: Facts
    log_lines: int = 0
    rejected: dict[str, str] = field(default_factory=dict)
    lowered: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Any]:
        """Yield the Events in order; the log and the tables of params and tags come last, once."""
        kinds = {type(entry.event) for entry in self.batch.entries}
        for entry in self.batch.entries:
            try:
                yield from self._encode(entry)
            # protobuf: a step beyond 64 bits, a name that is not Unicode
            except (ValueError, TypeError, OverflowError) as error:
                self.rejected[entry.key] = f"TensorBoard's format cannot hold it: {error}"
        yield from self._log()
        # A rewind to step 0 makes readers forget the tables too, which stand at step 0.
        if Rewind in kinds:
            starts = [entry.event for entry in self.batch.entries if isinstance(entry.event, RunStarted)]
            yield run_event([self.batch.run, *starts][-1])
        if self.facts.params and kinds & {Params, Rewind}:
            table = markdown_table(("param", "value"), self.facts.params)
            yield text_event(self.facts.at, 0, "params", table)
        if self.facts.tags and kinds & {Tags, Rewind}:
            table = markdown_table(("tag", "value"), self.facts.tags)
            yield text_event(self.facts.at, 0, "tags", table)

    def _encode(self, entry: Entry) -> Iterator[Any]:
        match entry.event:
            case Metrics() as metrics:
                yield metrics_event(metrics)
                self._note_loss(entry.key, metrics)
            case Histogram() as histogram:
                yield histogram_event(histogram)
                self._note_loss(entry.key, histogram)
            case Artifact() as artifact:
                yield self._artifact(entry, artifact)
            case RunStarted() as run:
                yield run_event(run)
            case RunFinished() as finished:
                yield finished_event(finished, is_session=bool(self.facts.params))
            case Rewind(at=at, from_step=step) as rewind:
                start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
                # Twice: to the server's reader the first START of a file is only the session's beginning.
                yield from [event_pb2.Event(wall_time=at, step=step, session_log=start)] * 2
                self._note_rewind(entry.key, rewind)
            case Log() as log:
                self._note_loss(entry.key, log)  # its line is in the text at the end
            case Params() | Tags():
                pass  # in the tables at the end, and in the facts' file
            case other:
                self.rejected[entry.key] = f"TensorBoard has no form for {kind_of(other)!r}"

    def _log(self) -> Iterator[Any]:
        """Yield the batch's log lines as few texts; each stands at the number of its first line.

        The Text dashboard keeps one text per step, and ten of a tag unless it is told otherwise.
        """
        lines: list[str] = []
        size = 0
        for log in (entry.event for entry in self.batch.entries if isinstance(entry.event, Log)):
            line = log_line(log)
            if lines and size + len(line) > MAX_LOG_CHARACTERS:
                yield text_event(log.at, self.log_lines, "log", code_block("\n".join(lines)))
                self.log_lines += len(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line) + 1
            at = log.at
        if lines:
            yield text_event(at, self.log_lines, "log", code_block("\n".join(lines)))
            self.log_lines += len(lines)

    def _note_loss(self, key: str, event: Metrics | Histogram | Artifact | Log) -> None:
        if event.meta:
            self.lowered[key] = "TensorBoard has no place for its labels (meta)"
        if isinstance(event, Metrics) and any(FLOAT32_MAX < abs(v) < math.inf for v in event.values.values()):
            self.lowered[key] = "TensorBoard holds 32-bit floats: a value beyond 3.4e38 became infinite"

    def _note_rewind(self, key: str, rewind: Rewind) -> None:
        """Say what stays that should go, and what goes that should stay."""
        step, what = rewind.from_step, []
        if rewind.below:
            what.append(f"{rewind.below:,} points below step {step} stay")
        if step <= 0:
            what.append("what has no step stands at step 0 there, and is hidden too")
        if self.log_lines > step:
            what.append(
                f"log lines stand at their numbers, and those from {max(step, 0):,} on are hidden too"
            )
        if what:
            self.lowered[key] = f"TensorBoard goes back by step alone: {'; '.join(what)}"

    def _artifact(self, entry: Entry, artifact: Artifact) -> Any:
        is_final = artifact.raw is None
        if is_final and artifact.role == "text":
            return self._text(entry, artifact)
        if is_final and artifact.role in ("image", "figure") and artifact.media_type.startswith("image/"):
            data = _content(self.batch, entry, artifact, MAX_IMAGE_BYTES + 1)
            size_px = image_size_px(data) if len(data) <= MAX_IMAGE_BYTES else None
            if size_px is not None:
                self._note_loss(entry.key, artifact)
                return image_event(artifact, data, size_px)
        self.lowered[entry.key] = "TensorBoard keeps no files: path, size and type are shown as text"
        rows = {"path": artifact.path, "size_bytes": artifact.size_bytes, "role": artifact.role}
        rows |= {"media_type": artifact.media_type, **(artifact.meta or {})}
        table = markdown_table(("artifact", ""), rows)
        return text_event(artifact.at, artifact.step or 0, f"artifacts/{artifact.path}", table)

    def _text(self, entry: Entry, artifact: Artifact) -> Any:
        data = _content(self.batch, entry, artifact, MAX_TEXT_BYTES + 1)
        text = data[:MAX_TEXT_BYTES].decode("utf-8", errors="replace")
        self._note_loss(entry.key, artifact)
        if len(data) > MAX_TEXT_BYTES:
            self.lowered[entry.key] = f"the first {MAX_TEXT_BYTES} of {artifact.size_bytes} bytes are shown"
        elif "\ufffd" in text:
            self.lowered[entry.key] = "it is not UTF-8: the bytes that are not are shown as \ufffd"
        shown = text if artifact.media_type == "text/markdown" else code_block(text)
        return text_event(artifact.at, artifact.step or 0, artifact.path, shown)


def run_event(run: RunStarted) -> Any:
    """Hold the facts of a run, or of an attempt at it, for the Text dashboard."""
    table = markdown_table(("run", ""), {name: getattr(run, name) for name in RUN_FACTS})
    return text_event(run.at, 0, "run", table)


def metrics_event(metrics: Metrics) -> Any:
    """Hold all values of the step in one Event; an Event for each value would cost 1.4x as much.

    `simple_value` is the form that every reader knows: the accumulator lists it under scalars, and
    the server turns it into what the Time Series and Scalars dashboards draw.
    """
    event = event_pb2.Event(wall_time=metrics.at, step=metrics.step)
    add = event.summary.value.add
    for name, value in metrics.values.items():
        add(tag=name, simple_value=value)
    return event


def histogram_event(histogram: Histogram) -> Any:
    """Hold the bins as they are: a tensor of shape [bins, 3], each `left, right, count`."""
    triples = zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False)
    tensor = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_DOUBLE, double_val=[x for triple in triples for x in triple]
    )
    for size in (len(histogram.counts), 3):
        tensor.tensor_shape.dim.add(size=size)
    metadata = histogram_metadata.create_summary_metadata(histogram.name, None)
    value = summary_pb2.Summary.Value(tag=histogram.name + HISTOGRAM, metadata=metadata, tensor=tensor)
    return _event(histogram.at, histogram.step or 0, value)


def text_event(at: float, step: int, name: str, markdown: str) -> Any:
    """Hold a markdown text for the Text dashboard."""
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[markdown.encode()])
    metadata = text_metadata.create_summary_metadata(name, None)
    return _event(at, step, summary_pb2.Summary.Value(tag=name + TEXT, metadata=metadata, tensor=tensor))


def image_size_px(content: bytes) -> tuple[int, int] | None:
    """Return width and height of a PNG, JPEG, GIF or WebP; None if it is none, or damaged."""
    from PIL import Image  # TensorBoard's own dependency

    try:
        with Image.open(io.BytesIO(content)) as picture:
            return int(picture.width), int(picture.height)
    except (OSError, ValueError, SyntaxError):  # Pillow's words for what is no image
        return None


def image_event(artifact: Artifact, content: bytes, size_px: tuple[int, int]) -> Any:
    """Hold an image as it is: the dashboard hands its bytes to the browser."""
    width, height = size_px
    image = summary_pb2.Summary.Image(width=width, height=height, encoded_image_string=content)
    metadata = summary_pb2.SummaryMetadata(display_name=artifact.path)
    value = summary_pb2.Summary.Value(tag=artifact.path + IMAGE, metadata=metadata, image=image)
    return _event(artifact.at, artifact.step or 0, value)


def finished_event(finished: RunFinished, *, is_session: bool) -> Any:
    """Hold the end: for the Text dashboard, exactly for us, and for HParams where the run is in it."""
    lines = [f"**{finished.status}** {code_span(finished.reason) if finished.reason else ''}".strip()]
    if finished.traceback:
        lines.append(code_block(finished.traceback))
    event = text_event(finished.at, 0, "status", "\n\n".join(lines))
    event.summary.value.append(own_value(FINISHED_TAG, msgspec.msgpack.encode(finished)))
    if is_session:
        status = STATUS.get(finished.status, api_pb2.STATUS_FAILURE)
        event.summary.value.append(hparams_end(status, finished.at))
    return event


def code_block(text: str) -> str:
    """Fence text for markdown, whatever fences it holds."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def _event(at: float, step: int, value: Any) -> Any:
    return event_pb2.Event(wall_time=at, step=step, summary=summary_pb2.Summary(value=[value]))


def _content(batch: Batch, entry: Entry, artifact: Artifact, limit_bytes: int) -> bytes:
    try:
        with batch.open_blob(entry) as blob:
            return blob.read(limit_bytes)
    except OSError as error:
        # Not the log folder's fault: an OSError would be taken for one.
        raise DeliveryError(f"the content of {artifact.path!r} cannot be read: {error}") from error
