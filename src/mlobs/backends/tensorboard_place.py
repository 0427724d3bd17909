"""Where a run's TensorBoard files lie, and what a receipt says of them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from mlobs.backend import Batch
from mlobs.events import RunStarted

MAX_NAME_BYTES = 80  # file systems allow 255; TensorBoard's list of runs shows about 40 characters
SHORT_ID = 13  # characters from the end of a run id: its microseconds and its random part


class Ref(msgspec.Struct, frozen=True):
    """A receipt's reference: the event file below the log folder, and its length on disk.

    `has_facts`: the file of params and tags stands beside it. `log_lines` counts the log events.
    """

    file: str
    size_bytes: int = 0
    has_facts: bool = False
    log_lines: int = 0

    def to_text(self) -> str:
        """Write it as a receipt holds it."""
        return msgspec.json.encode(self).decode()

    @property
    def run(self) -> str:
        """What TensorBoard calls the run: its folder below the log folder."""
        return str(PurePosixPath(self.file).parent)


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
    if run.attempt > 1:  # of a store that never had the earlier ones: their file is another's
        identity += f"\n{run.attempt}"
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
