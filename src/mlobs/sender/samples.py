"""One run's samples of its program's load: a journal of their own, and when they are over."""

from __future__ import annotations

from dataclasses import dataclass

from mlobs.delivery.start import find_starts
from mlobs.events import Log, Metrics, Process, RunFinished
from mlobs.journal.format import decode_event
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder
from mlobs.journal.writer import Writer
from mlobs.names import SYSTEM_PREFIX
from mlobs.read.points import that_count
from mlobs.read.record import liveness, scan_writers


@dataclass
class Samples:
    """Where the samples of one attempt at a run go. They count on from those of earlier attempts.

    `since` is when the attempt began: no sample is earlier, also where this host's clock was set back.
    """

    folder: RunFolder
    opener: str
    since: float
    step: int
    _writer: Writer | None = None
    _looked_at: int = 0  # offset in the opener's journal: the end of the run is looked for behind it

    def has_ended(self) -> bool:
        """Tell whether the process that opened the run has recorded its end.

        It reads what was recorded since it was last asked, 1.3 s for a million records.

        Raises:
            OSError: the run's journal is gone.
        """
        with Reader(self.folder.journal(self.opener)) as reader:
            for start, end, body in reader.bodies(self._looked_at):
                self._looked_at = end
                if start and b"run_finished" in body[:16] and isinstance(decode_event(body), RunFinished):
                    return True
        return False

    def add(self, at: float, values: dict[str, float]) -> None:
        """Record a sample of the moment `at` (Unix seconds).

        Raises:
            StoreError: there is no room; the next sample takes its step.
        """
        self._own().append(Metrics(max(at, self.since), self.step, values))
        self.step += 1

    def say(self, at: float, message: str) -> None:
        """Record that something could not be measured.

        Raises:
            StoreError: there is no room.
        """
        self._own().append(Log(max(at, self.since), message, "WARNING", "mlobs"))

    def close(self) -> None:
        """Close the journal; one that holds nothing was not made."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _own(self) -> Writer:
        if self._writer is None:
            self._writer = Writer(self.folder.path, self.folder.run_id, mapped=False)
        return self._writer


def samples_of(folder: RunFolder, program: Process) -> Samples | None:
    """Begin, or go on with, the samples of the latest attempt at a run.

    None if that is not the program's, or is over. A run with earlier samples is read as a whole for
    where they ended, 2 s for a million points.

    Raises:
        OSError: the run's folder is gone.
    """
    starts = find_starts(folder)
    if not starts:
        return None
    opener, start = starts[-1]
    samples = Samples(folder, opener, start.at, 0)
    if start.process != program or samples.has_ended():
        return None
    if len(folder.journals()) > 1:
        points = that_count([one.points for one in scan_writers(folder, liveness(), {})])
        steps = points.next_steps().items()
        samples.step = max((step for name, step in steps if name.startswith(SYSTEM_PREFIX)), default=0)
    return samples
