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
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

import msgspec

from mlobs.backend import Batch, Capabilities, Receipt, Source
from mlobs.errors import MissingPackage, Unauthorized, Unavailable, UsageError
from mlobs.events import Params, Rewind, RunFinished, RunStarted, Tags

MAX_NAME_BYTES = 80  # file systems allow 255; TensorBoard's list of runs shows about 40 characters
SHORT_ID = 13  # characters from the end of a run id: its microseconds and its random part
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
        roles=frozenset({"file", "text", "image", "figure"}),
        max_events=10_000,  # about 0.5 s of CPU with 10 values each: a batch soon becomes visible
    )

    def __post_init__(self) -> None:
        if "://" in self.logdir:
            raise UsageError(
                f"logdir is {self.logdir!r}; expected a folder - event files are cut and appended in place, "
                "so name a local or mounted path, and copy the files to an object store from there"
            )
        self.logdir = os.path.abspath(self.logdir)  # noqa: PTH100 - Path.absolute() keeps `..`

    def deliver(self, batch: Batch) -> Receipt:
        """Append the batch to the run's event file, on disk on return; a repeat is stored once.

        Raises:
            Unavailable: the disk is full or failing, what was delivered before has disappeared, or
                the `tensorboard` that is installed is broken.
            Unauthorized: the folder may not be written.
            MissingPackage: `tensorboard` is not installed.
            DeliveryError: an artifact's content cannot be read.
        """
        with _vendor():
            from mlobs.backends import tensorboard_facts, tensorboard_file
            from mlobs.backends.tensorboard_summaries import Encoder

        place = Place.of_batch(self.logdir, batch)
        known, events = place.known, [entry.event for entry in batch.entries]
        with _disk_errors(self.logdir):
            before = tensorboard_facts.Facts()
            if known.has_facts and any(isinstance(e, Params | Tags | Rewind | RunFinished) for e in events):
                before, _ = tensorboard_facts.from_events(tensorboard_file.read(place.facts))
            after = tensorboard_facts.fold(before, events)
            if after != before:
                facts_event = tensorboard_facts.to_event(after, batch.run.at)
                tensorboard_file.replace(place.facts, facts_event)
            encoder = Encoder(batch, after, known.log_lines)
            size_bytes = tensorboard_file.append(
                place.events, known.size_bytes, encoder, started_at=batch.run.at
            )
        has_facts = known.has_facts or after != before
        ref = Ref(known.file, size_bytes, has_facts, encoder.log_lines)
        return Receipt(msgspec.json.encode(ref).decode(), rejected=encoder.rejected, lowered=encoder.lowered)

    def source(self) -> Source:
        """Return the reader of what lies below `logdir`.

        Raises:
            MissingPackage: `tensorboard` is not installed.
        """
        with _vendor():
            from mlobs.backends.tensorboard_source import TensorBoardSource
        return TensorBoardSource(self.logdir)

    def close(self) -> None:
        """Do nothing: no file stays open between batches."""


class Ref(msgspec.Struct, frozen=True):
    """A receipt's reference: the event file below the log folder, and its length on disk.

    `has_facts`: the file of params and tags stands beside it. `log_lines` counts the log events.
    """

    file: str
    size_bytes: int = 0
    has_facts: bool = False
    log_lines: int = 0


@dataclass(frozen=True)
class Place:
    """A run's files: `events` grows from the known size on, `facts` is replaced as a whole."""

    logdir: Path
    known: Ref

    @classmethod
    def of_batch(cls, logdir: str, batch: Batch) -> Place:
        """Return where the batch belongs: what it refers to, or a place that depends on it alone."""
        return cls.of_ref(logdir, batch.ref) if batch.ref else cls(Path(logdir), Ref(first_file(batch)))

    @classmethod
    def of_ref(cls, logdir: str, ref: str) -> Place:
        """Return the place that a receipt named."""
        return cls(Path(logdir), msgspec.json.decode(ref, type=Ref))

    @property
    def events(self) -> Path:
        """The file that grows."""
        return self.logdir / self.known.file

    @property
    def facts(self) -> Path:
        """The file of params and tags; it sorts first, as TensorBoard believes what it reads first."""
        return self.events.with_suffix(".facts")


def first_file(batch: Batch) -> str:
    """Name the event file of a run that begins, the same whenever it is asked again.

    A writer that joined the run (its first event is not the run's start) gets a file of its own
    in the run's folder, named after that event's key, so that two senders never share a file.
    """
    run, identity = batch.run, batch.run.run_id
    if batch.entries and not isinstance(batch.entries[0].event, RunStarted):
        identity += "\n" + batch.entries[0].key
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    host = re.sub(r"[^A-Za-z0-9-]", "-", run.process.host)[:40] or "host"
    short_id = re.sub(r"[^A-Za-z0-9-]", "-", run.run_id)[-SHORT_ID:]
    folder = PurePosixPath(file_name(run.experiment), f"{file_name(run.name)}-{short_id}")
    return str(folder / f"events.out.tfevents.{max(0, int(run.at)):010d}.{host}.mlobs-{digest}.run")


def file_name(text: str) -> str:
    """Make a name that every file system takes: other characters become "_", a long name is cut."""
    safe = re.sub(r"[^\w.+=@ -]", "_", text).encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    return safe.strip(" .") or "_"


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
