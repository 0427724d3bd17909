"""What vendors' writers put into event files, as events: TensorFlow 1 and 2, torch, tensorboardX."""

# protobuf makes its classes at run time: pyright cannot know them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tensorboard.compat.proto import event_pb2, types_pb2
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.util import tensor_util

from mlobs.events import Artifact, Event, Histogram, Metrics, Params, Rewind, RunFinished

_TEXT_SUFFIX = "/text_summary"  # torch and tensorboardX put it behind the name
_KIND_BY_PLUGIN = {
    "scalars": "scalar",
    "histograms": "histogram",
    "images": "images",
    "audio": "audio",
    "text": "text",
}
_SIGNATURES = (
    (b"\x89PNG", "image/png", ".png"),
    (b"\xff\xd8", "image/jpeg", ".jpg"),
    (b"GIF8", "image/gif", ".gif"),
    (b"RIFF", "image/webp", ".webp"),
)
_STATUS = {api_pb2.STATUS_SUCCESS: "FINISHED", api_pb2.STATUS_FAILURE: "FAILED"}
_NO_SHOWN_VALUE = frozenset({metadata.EXPERIMENT_TAG})  # how a dashboard draws the params
_BEYOND = 1e300  # TensorFlow's last bin reaches to the largest number that there is
_COLUMNS = 3  # of a histogram's tensor: left, right, count


@dataclass
class Decoder:
    """Turns the Events of one run, in their order, into events of mlobs.

    A writer says only once per file which plugin a tag belongs to; this remembers it. `left_out` counts
    what has no form here. `end` is the end that a writer of hparams recorded.
    """

    left_out: Counter[str]
    end: RunFinished | None = None
    _plugins: dict[str, str] = field(default_factory=dict)
    _greatest_step: int = -1

    def decode(self, event: Any) -> Iterator[Event]:
        """Yield what one Event holds; its scalars stay together."""
        which = event.WhichOneof("what")
        if which == "session_log":
            is_start = event.session_log.status == event_pb2.SessionLog.START
            if is_start and event.step <= self._greatest_step:
                yield Rewind(event.wall_time, event.step)
        elif which == "summary":
            self._greatest_step = max(self._greatest_step, event.step)
            yield from self._summary(event)
        elif which not in ("file_version", None):
            self.left_out[which] += 1

    def _summary(self, event: Any) -> Iterator[Event]:
        scalars: dict[str, float] = {}
        for value in event.summary.value:
            plugin = value.metadata.plugin_data.plugin_name
            if plugin:
                self._plugins[value.tag] = plugin
            number = self._scalar(value)
            if number is None:
                yield from self._other(event, value)
            elif value.tag in scalars:  # two points of one tag in one Event
                yield Metrics(event.wall_time, event.step, {value.tag: number})
            else:
                scalars[value.tag] = number
        if scalars:
            yield Metrics(event.wall_time, event.step, scalars)

    def _scalar(self, value: Any) -> float | None:
        kind = value.WhichOneof("value")
        if kind == "simple_value":
            return float(value.simple_value)
        if kind != "tensor" or value.tensor.dtype == types_pb2.DT_STRING or value.tensor.tensor_shape.dim:
            return None
        array: Any = tensor_util.make_ndarray(value.tensor)
        return float(array.item()) if array.size == 1 and array.dtype.kind in "fiub" else None

    def _other(self, event: Any, value: Any) -> Iterator[Event]:
        at, step, name = event.wall_time, event.step, value.tag
        kind = value.WhichOneof("value")
        plugin = self._plugins.get(name, "")
        if plugin == metadata.PLUGIN_NAME:
            yield from self._hparams(at, value)
        elif kind == "histo":
            yield from _histogram_of_proto(at, step, name, value.histo)
        elif kind == "image":
            yield _image(at, step, name, value.image.encoded_image_string)
        elif kind == "audio":
            yield _audio(at, step, name, value.audio.encoded_audio_string, value.audio.content_type)
        elif kind == "tensor" and plugin in _KIND_BY_PLUGIN:
            yield from _of_tensor(at, step, name, plugin, tensor_util.make_ndarray(value.tensor))
        else:
            self.left_out[plugin or kind or "value"] += 1

    def _hparams(self, at: float, value: Any) -> Iterator[Event]:
        content = value.metadata.plugin_data.content
        if value.tag == metadata.SESSION_START_INFO_TAG:
            start = metadata.parse_session_start_info_plugin_data(content)
            values = {name: getattr(one, one.WhichOneof("kind")) for name, one in start.hparams.items()}
            if values:
                yield Params(at, values)
        elif value.tag == metadata.SESSION_END_INFO_TAG:
            end = metadata.parse_session_end_info_plugin_data(content)
            if end.status in _STATUS:
                self.end = RunFinished(end.end_time_secs or at, _STATUS[end.status])
        elif value.tag not in _NO_SHOWN_VALUE:
            self.left_out["hparams"] += 1


def _of_tensor(at: float, step: int, name: str, plugin: str, array: Any) -> Iterator[Event]:
    """Yield what a plugin of TensorFlow 2 keeps as a tensor."""
    match _KIND_BY_PLUGIN[plugin]:
        case "histogram" if array.ndim == 2 and array.shape[1] == _COLUMNS:  # noqa: PLR2004 - a table
            bins = array.tolist()
            if bins:
                edges = [left for left, _, _ in bins] + [bins[-1][1]]
                yield Histogram(at, step, name, [count for _, _, count in bins], edges)
        case "images":  # width and height as texts, then the pictures
            pictures = array.ravel().tolist()[2:]
            for number, content in enumerate(pictures):
                yield _image(at, step, name if len(pictures) == 1 else f"{name}/{number}", content)
        case "audio":  # [clips, 2]: content and label, or [clips]
            clips = array[:, 0].tolist() if array.ndim > 1 else array.ravel().tolist()
            for number, content in enumerate(clips):
                yield _audio(at, step, name if len(clips) == 1 else f"{name}/{number}", content, "audio/wav")
        case "text":
            texts = [_text_of(one) for one in array.ravel().tolist()]
            content = "\n\n".join(texts).encode()
            path = _path(name.removesuffix(_TEXT_SUFFIX), ".md")
            yield Artifact(at, path, len(content), "text", "text/markdown", data=content, step=step)


def _text_of(content: Any) -> str:
    return content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)


def _histogram_of_proto(at: float, step: int, name: str, proto: Any) -> Iterator[Histogram]:
    """Yield the bins of TensorFlow 1: right edges, of which the last may be the largest number there is."""
    rights, counts = list(proto.bucket_limit), list(proto.bucket)
    if not rights or len(rights) != len(counts):
        return
    edges = [min(proto.min, rights[0]), *rights]
    if edges[-1] > _BEYOND:
        edges[-1] = max(proto.max, edges[-2])
    yield Histogram(at, step, name, counts, edges)


def _image(at: float, step: int, name: str, content: bytes) -> Artifact:
    known = (one for one in _SIGNATURES if content.startswith(one[0]))
    _, media_type, suffix = next(known, (b"", "application/octet-stream", ""))
    return Artifact(at, _path(name, suffix), len(content), "image", media_type, data=content, step=step)


def _audio(at: float, step: int, name: str, content: bytes, media_type: str) -> Artifact:
    kind = media_type or "audio/wav"
    return Artifact(at, _path(name, ".wav"), len(content), "file", kind, data=content, step=step)


def _path(name: str, suffix: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    path = "/".join(parts) or "unnamed"
    return path if path.endswith(suffix) else path + suffix
