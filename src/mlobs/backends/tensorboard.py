"""TensorBoard: a folder of event files, written with the `tensorboard` package alone.

Each run has its own folder, `logdir/<experiment>/<run name>-<end of the run id>`. Look at it with
`tensorboard --logdir <logdir>`: metrics under Time Series and Scalars, params under HParams (with
the last value of each metric), histograms, PNG images, and params, tags, texts, status and
references to artifacts under Text.

A repeated batch is stored once: a receipt's reference holds the event file's length on disk, the
next batch is written from there, and the same events give the same bytes.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from mlobs.backend import Batch, Capabilities, Receipt, Source, Viewer
from mlobs.backends.tensorboard_place import Place, Ref
from mlobs.errors import MissingPackage, Unauthorized, Unavailable, UsageError
from mlobs.events import Params, Rewind, RunFinished, Tags

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass
class TensorBoard:
    """Writes runs below `logdir` (relative to the working directory at construction).

    Metric values are 32-bit floats, TensorBoard's own precision. What is deleted or cut from
    outside while its run is open is not silently begun anew: the events wait, and the lane says so.
    A TensorBoard that is already open shows the params of the first batch that had any; once it
    is restarted it shows them all.
    """

    logdir: str = "runs"
    name: str = "tensorboard"

    package: ClassVar[str] = "tensorboard"
    extra: ClassVar[str] = "tensorboard"
    capabilities: ClassVar[Capabilities] = Capabilities(
        kinds=frozenset(
            {
                "run_started",
                "params",
                "metrics",
                "tags",
                "log",
                "artifact",
                "histogram",
                "rewind",
                "run_finished",
            }
        ),
        roles=frozenset({"text", "image", "figure"}),  # of a file it shows what names it, as a text
        float_bits=32,
        max_events=10_000,  # about 0.5 s of CPU with 10 values each: a batch soon becomes visible
    )

    def __post_init__(self) -> None:
        if not isinstance(self.logdir, str | os.PathLike):
            raise UsageError(f"logdir is {self.logdir!r}; expected a folder - type logdir='runs'")
        self.logdir = os.fspath(self.logdir)
        if "://" in self.logdir:
            raise UsageError(
                f"logdir is {self.logdir!r}; expected a folder - event files are cut and appended in place, "
                "so name a local or mounted path, and copy the files to an object store from there"
            )
        self.logdir = os.path.abspath(self.logdir)  # noqa: PTH100 - Path.absolute() keeps `..`

    def deliver(self, batch: Batch) -> Receipt:
        """Append the batch to the run's event file, on disk on return; a repeat is stored once.

        Raises:
            Unavailable: the disk is full or failing, what was delivered before has disappeared, a
                copy of the store has delivered more, or the `tensorboard` that is installed is broken.
            Unauthorized: the folder may not be written.
            MissingPackage: `tensorboard` is not installed.
            DeliveryError: an artifact's content cannot be read.
        """
        with _vendor():
            from mlobs.backends import tensorboard_facts, tensorboard_file, tensorboard_marks
            from mlobs.backends.tensorboard_summaries import Encoder

        place = Place.of_batch(self.logdir, batch)
        known, events = place.known, [entry.event for entry in batch.entries]
        with _disk_errors(self.logdir):
            tensorboard_marks.check(place.events, known.size_bytes, batch.place)
            before = tensorboard_facts.Facts()
            if known.has_facts and any(isinstance(e, Params | Tags | Rewind | RunFinished) for e in events):
                before, _ = tensorboard_facts.from_events(tensorboard_file.read(place.facts))
            after = tensorboard_facts.fold(before, events)
            if after != before:
                facts_event = tensorboard_facts.to_event(after, batch.run.at)
                tensorboard_file.replace(place.facts, facts_event)
            encoder = Encoder(batch, after, known.log_lines)
            mark = tensorboard_marks.mark(batch.place, batch.run.at)
            size_bytes = tensorboard_file.append(
                place.events, known.size_bytes, chain(encoder, [mark]), started_at=batch.run.at
            )
        has_facts = known.has_facts or after != before
        ref = Ref(known.file, size_bytes, has_facts, encoder.log_lines)
        return Receipt(ref.to_text(), vendor_id=ref.run, rejected=encoder.rejected, lowered=encoder.lowered)

    def source(self) -> Source:
        """Return the reader of what lies below `logdir`.

        Raises:
            MissingPackage: `tensorboard` is not installed.
        """
        with _vendor():
            from mlobs.backends.tensorboard_source import TensorBoardSource
        return TensorBoardSource(self.logdir)

    def viewer(self) -> Viewer:
        """Return TensorBoard itself, on all runs below `logdir`.

        Raises:
            MissingPackage: `tensorboard` is not installed.
            UsageError: there is nothing below `logdir` yet.
        """
        if importlib.util.find_spec(self.package) is None:
            raise MissingPackage(self.package, self.extra)
        if not os.path.isdir(self.logdir):  # noqa: PTH112 - a text, as everywhere here
            raise UsageError(f"there is no {self.logdir} yet - record a run for it, or type: mlobs sync")
        program = (sys.executable, "-m", "tensorboard.main", "--logdir", self.logdir)
        return Viewer(arguments=(*program, "--host", "127.0.0.1", "--port", "{port}"))

    def close(self) -> None:
        """Do nothing: no file stays open between batches."""


@contextmanager
def _vendor() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingPackage(TensorBoard.package, TensorBoard.extra) from error
    except Exception as error:  # protobuf or NumPy of a version that this tensorboard does not know
        raise Unavailable(
            f"tensorboard cannot be imported: {error!r} - type: pip install --upgrade 'mlobs[tensorboard]'"
        ) from error


@contextmanager
def _disk_errors(logdir: str) -> Iterator[None]:
    """Say what the disk's errors mean for a lane: a refusal pauses it, anything else passes."""
    try:
        yield
    except OSError as error:
        if error.errno in REFUSED:
            raise Unauthorized(
                f"{logdir} cannot be written: {error} - type: chmod u+w, or choose another logdir"
            ) from error
        raise Unavailable(f"{logdir} cannot be written now: {error}") from error
