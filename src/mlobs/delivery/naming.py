"""What people call an event: its kind, and the names and step that it was logged with."""

from __future__ import annotations

from mlobs.delivery.keys import root_key
from mlobs.events import Event, kind_of
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder

_MOST_NAMES = 3  # of one event; a reason is one line


def words_for(folder: RunFolder, key: str) -> str:
    """Say which event a key stands for, such as "metrics loss, acc of step 3".

    A key whose event cannot be read is said as it is.
    """
    writer, _, offset = root_key(key).rpartition(":")
    if not writer or not offset.isdigit():
        return key
    try:
        with Reader(folder.journal(writer)) as reader:
            found = next(reader.events(int(offset)), None)
    except OSError:  # the journal of another host, which was not copied
        return key
    return key if found is None or found[0] != int(offset) else words(found[2])


def words(event: Event) -> str:
    """Say what an event is, by its kind, names and step."""
    names = _names(event)
    shown = ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")
    step = getattr(event, "step", None)
    return " ".join(
        part for part in (kind_of(event), shown, "" if step is None else f"of step {step}") if part
    )


def _names(event: Event) -> list[str]:
    values = getattr(event, "values", None)
    if isinstance(values, dict):
        return [str(name) for name in values]
    one = getattr(event, "path", None) or getattr(event, "name", None) or getattr(event, "part", None)
    return [str(one)] if one else []
