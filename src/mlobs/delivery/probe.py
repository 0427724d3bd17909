"""Events that a backend has, to be delivered once more: does it still take what it took before?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mlobs.backend import Capabilities, Entry
from mlobs.delivery.lane import Evidence
from mlobs.delivery.lowering import Memory, lower
from mlobs.delivery.state import BackendState
from mlobs.encoding.forms import is_raw
from mlobs.events import Artifact, Event, Metrics, Params
from mlobs.journal.blobs import blob_path
from mlobs.journal.format import decode_event, is_metrics
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder

_ROWS = (Metrics, Params)  # not tags: of a tag the last value counts, and another writer may have written it


class Probe(NamedTuple):
    """What to deliver again, and what it proves about the suspect if the backend takes it."""

    entries: tuple[Entry, ...]
    proves: Evidence


def find_probe(
    folder: RunFolder, state: BackendState, capabilities: Capabilities, suspect: Iterable[Entry]
) -> Probe:
    """Choose events of the run that the backend has stored, as like as possible to what it does not take.

    Files may lie elsewhere than values, so a value says little about a file. Without such events
    the probe is empty.
    """
    wanted = {isinstance(entry.event, Artifact) for entry in suspect}
    found: dict[bool, Entry] = {}
    for writer in sorted(state.cursors):
        for entry in _last_of(folder, writer, state, capabilities):
            found.setdefault(isinstance(entry.event, Artifact), entry)
    alike = tuple(found[is_file] for is_file in wanted if is_file in found)
    if len(alike) == len(wanted):
        return Probe(alike, "like")
    return Probe(tuple(found.values()), "other" if found else "none")


def _last_of(
    folder: RunFolder, writer: str, state: BackendState, capabilities: Capabilities
) -> Iterator[Entry]:
    """The last metrics or params, and the last artifact, of one writer that were stored as they are."""
    last: dict[bool, tuple[str, bytes]] = {}
    path = folder.journal(writer)
    if not path.exists():
        return
    with Reader(path) as reader:
        for start, _, body in reader.bodies():
            if start >= state.cursors[writer]:
                break
            key = f"{writer}:{start}"
            if start and key not in state.rejected and (is_metrics(body) or _is_fit(folder, writer, body)):
                last[not is_metrics(body) and isinstance(decode_event(body), Artifact)] = (key, body)
    for key, body in last.values():
        event = decode_event(body)
        events = lower(event, capabilities, Memory()).events
        if events and type(events[0]) is type(event) and not is_raw(events[0]):
            yield Entry(key, events[0])


def _is_fit(folder: RunFolder, writer: str, body: bytes) -> bool:
    event: Event = decode_event(body)
    if isinstance(event, Artifact):
        return event.blob is None or blob_path(folder.path, writer, event.blob).exists()
    return isinstance(event, _ROWS)
