"""All that the author of a backend reads: what a backend is given, and what it answers.

A backend is a dataclass. Its fields are its parameters: constructing it imports no vendor and
does no I/O. `deliver` runs in the sender's process, from one thread at a time; a batch that was
not answered is delivered again, so delivering a batch twice must store it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, Protocol, get_args, runtime_checkable

from mlobs.events import Event, Known, Role, RunStarted

ALL_KINDS = frozenset(str(kind.__struct_config__.tag) for kind in get_args(Known))
ALL_ROLES: frozenset[str] = frozenset(get_args(Role))


@dataclass(frozen=True)
class Capabilities:
    """What a backend takes as it is; everything else is lowered before `deliver` sees it.

    Args:
        kinds: event kinds taken natively.
        roles: artifact roles taken natively. One of another role arrives as "image", if it is a figure
            and that is taken, else as "file", else as "text": its first rows, or a reference with digest.
        max_events: events in one batch.
        max_values: metric values, params and tags of one batch together; a single event with more
            still arrives whole. None: no limit.
        name_pattern: regular expression that a character of a metric, param or tag name matches;
            other characters are escaped reversibly. None: any character.
        name_is_path: such a name is a relative POSIX path in normal form: no leading or doubled "/",
            no part "." or "..". What would be none is escaped too.
        max_name_length: characters of such a name. None: no limit.
        max_param_length: characters of a param's value as text; a longer one arrives as a preview,
            with the full value in the artifact `params.json`. None: no limit.
        max_tag_length: the same for tags, with `tags.json`.
        max_params: params of one run; the values of further names are in `params.json`. None: no limit.
        max_tags: the same for tags, those of mlobs' own included that lowering writes, with `tags.json`.
        nan: NaN is stored and read back as NaN.
        infinities: infinities are stored and read back as such.
        float_bits: 64 if metric values are kept to the last bit, 32 if they are 32-bit floats there.
        max_content_bytes: by artifact role, the largest content that is kept as a whole; of a larger one the
            backend keeps what names it, and says so in its receipt. A role without a number has no limit.
        stores_once: an event that was stored at any time before may be delivered again, and is
            stored once. Then the lane tells an event that breaks the backend from a backend in
            trouble, by delivering again an event that it has. False: only the latest batch may.
    """

    kinds: frozenset[str] = ALL_KINDS
    roles: frozenset[str] = ALL_ROLES
    max_events: int = 1000
    max_values: int | None = None
    name_pattern: str | None = None
    name_is_path: bool = False
    max_name_length: int | None = None
    max_param_length: int | None = None
    max_tag_length: int | None = None
    max_params: int | None = None
    max_tags: int | None = None
    nan: bool = True
    infinities: bool = True
    float_bits: Literal[32, 64] = 64
    max_content_bytes: Mapping[str, int] = field(default_factory=dict)
    stores_once: bool = False


@dataclass(frozen=True)
class Entry:
    """An event and its identity. `key` is unique for ever: use it where the vendor takes one."""

    key: str
    event: Event


@dataclass(frozen=True)
class Batch:
    """Events of one run, oldest first.

    `ref` is what this backend's last receipt for the run returned, None on the first batch.
    `parent_ref` is the parent run's reference at this backend, None if there is no parent or it
    is not known here. `open_blob` opens an artifact's content for reading, wherever it lies. `place`
    names the run's folder: a copy of the store, elsewhere, may deliver the same run.
    """

    run: RunStarted
    entries: tuple[Entry, ...]
    open_blob: Callable[[Entry], BinaryIO]
    ref: str | None = None
    parent_ref: str | None = None
    place: str = ""


@dataclass(frozen=True)
class Receipt:
    """The answer to a batch: everything in it is stored, but for what is named as not stored.

    `ref` comes back with the next batch of the run, also after a restart: the vendor's run id, or
    whatever the backend needs to go on. `vendor_id` is what the vendor calls the run, if that is
    not `ref`; `url` is a page that a person can open. `rejected`, `lowered` and `skipped` map an
    entry's key to a reason that a person can read: refused, stored in another form than it was given,
    or left out because it has no place there, which is nothing to worry about.
    """

    ref: str
    url: str | None = None
    rejected: Mapping[str, str] = field(default_factory=dict)
    lowered: Mapping[str, str] = field(default_factory=dict)
    vendor_id: str | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Viewer:
    """A vendor's own pages on what a backend holds.

    `address` is where they are already. Otherwise `arguments` are a program of this machine that serves
    them, with "{port}" in the place of the port of 127.0.0.1 that it gets, and `environment` what is
    added to its environment: addresses with passwords belong there, as everybody sees arguments.
    """

    address: str | None = None
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Backend(Protocol):
    """A place that events go to.

    `name` is unique among the backends of a tracker; by default it is the type's. A class may also
    define `package` and `extra`: the vendor's importable module, and the extra that installs it. A method
    `viewer()` returns the `Viewer` that `mlobs ui` opens, or raises `UsageError` or `MissingPackage`.
    """

    @property
    def name(self) -> str:
        """What the backend is called in reports and settings."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it takes as it is."""
        ...

    def deliver(self, batch: Batch) -> Receipt:
        """Store the batch durably and return the receipt; a repeated batch is stored once.

        Raises:
            Unavailable: the backend cannot answer now; the lane backs off and delivers it again. The
                same goes for ConnectionError and TimeoutError.
            ServerError: it failed at this batch, which is made smaller the next time.
            Unauthorized: the credentials are refused; the lane pauses.
            MissingPackage: the vendor's package is not installed; the lane pauses.
            Exception: anything else; the batch is halved until the event at fault stands alone, which
                is rejected when it fails a second time.
        """
        ...

    def close(self) -> None:
        """Release what `deliver` opened. It may be called without any `deliver` before it."""
        ...


class Source(Protocol):
    """The way back: what a vendor holds of a run, as events.

    A class may also define `reads`, the kinds that it reads if those are not all that its backend
    takes, and `copies(ref)`, how many rows the vendor holds beside those that `read` yields once.
    """

    def read(self, ref: str) -> Iterable[Event]:
        """Yield the run's events as the vendor holds them now; `ref` is a receipt's."""
        ...
