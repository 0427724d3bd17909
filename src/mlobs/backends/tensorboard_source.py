"""The way back from TensorBoard: what a run's files hold, as events."""

# protobuf makes its classes at run time: pyright cannot know them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from tensorboard.compat.proto import event_pb2
from tensorboard.util import tensor_util

from mlobs.backends.tensorboard_facts import from_events, hparam_of
from mlobs.backends.tensorboard_file import read
from mlobs.backends.tensorboard_place import Place
from mlobs.backends.tensorboard_summaries import FINISHED_TAG, HISTOGRAM
from mlobs.events import Event, Histogram, Metrics, Params, Rewind, RunFinished, Tags


@dataclass(frozen=True)
class TensorBoardSource:
    """Reads runs below `logdir` with TensorBoard's own record reader.

    The accumulator of TensorBoard sorts by tag; this keeps the order in which points were written.
    """

    logdir: str

    reads: ClassVar[frozenset[str]] = frozenset(
        {"params", "metrics", "tags", "histogram", "rewind", "run_finished"}
    )

    def read(self, ref: str) -> Iterator[Event]:
        """Yield params, tags, then metrics, histograms, rewinds and the end, oldest first.

        Metric values are 32-bit floats, as TensorBoard holds them. A param is what the HParams
        dashboard holds, in its original type (7 or 7.0, a list) where the two agree. Texts, images
        and references to artifacts are for people, and are not read back.

        Raises:
            Unavailable: a file of the run is gone.
        """
        place = Place.of_ref(self.logdir, ref)
        if place.known.has_facts:
            yield from _facts(place)
        before = None
        for event in itertools.islice(read(place.events), 1, None):  # after the header
            if not (event.HasField("session_log") and event == before):  # a rewind stands there twice
                yield from _events(event)
            before = event


def _facts(place: Place) -> Iterator[Event]:
    exact, held = from_events(read(place.facts))
    if held:
        values = {
            name: exact.params.get(name) if hparam_of(exact.params.get(name)) == value else value
            for name, value in held.items()
        }
        yield Params(at=exact.at, values=values)
    if exact.tags:
        yield Tags(at=exact.at, values=exact.tags)


def _events(event: Any) -> Iterator[Event]:
    scalars: dict[str, float] = {}
    for value in event.summary.value:
        if value.HasField("simple_value"):
            scalars[value.tag] = value.simple_value
        elif value.tag == FINISHED_TAG:
            yield msgspec.msgpack.decode(value.tensor.string_val[0], type=RunFinished)
        elif value.tag.endswith(HISTOGRAM):
            yield _histogram(event, value)
    if scalars:
        yield Metrics(at=event.wall_time, step=event.step, values=scalars)
    if event.session_log.status == event_pb2.SessionLog.START:
        yield Rewind(at=event.wall_time, from_step=event.step)


def _histogram(event: Any, value: Any) -> Histogram:
    bins: Any = tensor_util.make_ndarray(value.tensor).tolist()  # [bins, 3]: left, right, count
    edges = [left for left, _, _ in bins] + [right for _, right, _ in bins[-1:]]
    name = value.tag.removesuffix(HISTOGRAM)
    return Histogram(event.wall_time, event.step, name, [count for _, _, count in bins], edges)
