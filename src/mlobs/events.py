"""What can happen in a run: the vocabulary that every other part speaks.

Events are frozen, few and append-only. In the journal each is a MessagePack array
`[kind, field, field, ...]`: fields are only ever added at the end, with a default, and a kind is
never renamed, so that a journal of any released version opens for ever. Words (a status, a role)
are plain strings there: a newer mlobs may have more of them. `at` is Unix time in seconds (UTC);
`meta` is a small mapping of the caller's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from typing_extensions import Self  # of the type checkers; typing has it from 3.11 on

Status: TypeAlias = Literal["RUNNING", "FINISHED", "FAILED", "KILLED", "CRASHED"]
Role: TypeAlias = Literal["file", "image", "figure", "table", "matrix", "confusion_matrix", "model", "text"]
Strength: TypeAlias = Literal["content", "rows", "pinned", "stat", "name"]
Meta: TypeAlias = dict[str, Any]


class Process(msgspec.Struct, frozen=True, array_like=True):
    """Who writes: enough to tell, on the same host, whether that very process still lives.

    `started` counts the clock ticks from boot to the process's start (Linux; elsewhere 0), so a
    reused pid is not mistaken for its predecessor. `boot_id` is the kernel's, with the pid namespace
    and a hash of the machine's id behind slashes; empty if unknown.
    """

    host: str
    pid: int
    boot_id: str = ""
    started: int = 0


class BackendSpec(msgspec.Struct, frozen=True, array_like=True):
    """A backend as plain data: `type` is `module:class`, `params` its fields without secrets."""

    name: str
    type: str
    params: dict[str, Any] = {}


class RunStarted(msgspec.Struct, frozen=True, array_like=True, tag="run_started"):
    """A run began, or was gone on with; only the process that opens the run writes it.

    `attempt` counts from 1, `resumed_from` is the writer of the attempt before, and `at` is later than
    all that was recorded by then. `number` counts the runs that one process opens, from 1; 0: nobody counted.
    """

    at: float
    run_id: str
    experiment: str
    name: str
    process: Process
    parent_run_id: str | None = None
    attempt: int = 1
    resumed_from: str | None = None
    rank: int = 0
    world_size: int = 1
    backends: tuple[BackendSpec, ...] = ()
    mlobs_version: str = ""
    python_version: str = ""
    argv: tuple[str, ...] = ()
    number: int = 0


class Params(msgspec.Struct, frozen=True, array_like=True, tag="params"):
    """Parameters under flat, dotted names; values are scalars, strings, or lists of them.

    `conflict` is None when every name is new. Otherwise every name already had another value, and
    the word says which one counts: "keep_first" the earlier, "overwrite" this one.
    """

    at: float
    values: dict[str, Any]
    conflict: str | None = None


class Metrics(msgspec.Struct, frozen=True, array_like=True, tag="metrics", gc=False):
    """Values of one step; NaN and infinities are values like any other."""

    at: float
    step: int
    values: dict[str, float]
    meta: Meta | None = None


class Tags(msgspec.Struct, frozen=True, array_like=True, tag="tags"):
    """Tags; a later value replaces an earlier one."""

    at: float
    values: dict[str, str]


class Log(msgspec.Struct, frozen=True, array_like=True, tag="log"):
    """One line or record of output. `stream` is where it came from: "logging", "stdout", "stderr"."""

    at: float
    message: str
    level: str = "INFO"
    logger: str = ""
    stream: str = "logging"
    exception: str | None = None
    step: int | None = None
    meta: Meta | None = None


class Artifact(msgspec.Struct, frozen=True, array_like=True, tag="artifact"):
    """A payload under a relative POSIX `path`; the latest of a path (and step) counts.

    Small content stands in `data`; anything larger is the blob `blob`, an ordinal that counts the
    blobs of the writer of this event. `raw` describes content that is not yet in its final form
    (dtype, shape, layout); `role` says what it is to a person, see `Role`.
    """

    at: float
    path: str
    size_bytes: int
    role: str = "file"
    media_type: str = "application/octet-stream"
    blob: int | None = None
    data: bytes | None = None
    step: int | None = None
    meta: Meta | None = None
    raw: dict[str, Any] | None = None


class Histogram(msgspec.Struct, frozen=True, array_like=True, tag="histogram"):
    """`counts[i]` values lie in `[edges[i], edges[i + 1])`; the last bin includes its right edge."""

    at: float
    step: int | None
    name: str
    counts: list[float]
    edges: list[float]
    meta: Meta | None = None


class Dataset(msgspec.Struct, frozen=True, array_like=True, tag="dataset"):
    """A dataset that the run used, and how strongly its content is pinned, see `Strength`.

    `columns` are a table's types, by name; `digests` what each of its columns, or of a folder's files, holds.
    """

    at: float
    name: str
    version: str | None
    fingerprint: str
    strength: str
    context: str = "train"
    source: str | None = None
    rows: int | None = None
    columns: dict[str, str] | None = None
    step: int | None = None
    meta: Meta | None = None
    digests: dict[str, str] | None = None


class Snapshot(msgspec.Struct, frozen=True, array_like=True, tag="snapshot"):
    """One part of the reproducibility snapshot ("code", "environment", "seeds", ...).

    `missing` is the reason when the part could not be captured.
    """

    at: float
    part: str
    facts: dict[str, Any]
    blob: int | None = None
    missing: str | None = None


class ModelFingerprint(msgspec.Struct, frozen=True, array_like=True, tag="model_fingerprint"):
    """A model's fingerprint, independent of how it is serialised; `leaves` are its parts'."""

    at: float
    name: str
    fingerprint: str
    scheme: str
    leaves: dict[str, str] = {}
    step: int | None = None
    meta: Meta | None = None


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag="heartbeat"):
    """The run was alive at this moment."""

    at: float


class Rewind(msgspec.Struct, frozen=True, array_like=True, tag="rewind"):
    """The run went back: what was recorded for steps >= `from_step` no longer counts.

    With `since` (Unix seconds) neither does what was recorded later than that, whatever its step, an
    earlier rewind included; `below` of those points have smaller steps than `from_step`.
    """

    at: float
    from_step: int
    since: float | None = None
    below: int = 0


class RunFinished(msgspec.Struct, frozen=True, array_like=True, tag="run_finished"):
    """The run ended, see `Status`. `reason` is one sentence.

    `unrecorded` counts calls that could not be kept; `exit_code` is that of `sys.exit`, if it was called.
    """

    at: float
    status: str
    reason: str = ""
    traceback: str | None = None
    exit_code: int | None = None
    unrecorded: int = 0


class Unknown(tuple[Any, ...]):
    """An event of a kind that a newer mlobs wrote; it is kept and shown, never lost.

    It is the array of the journal as it stands, so it can be written again unchanged.
    """

    __slots__ = ()

    def __new__(cls, kind: str, fields: Iterable[Any]) -> Self:
        """Put the kind before its fields."""
        return super().__new__(cls, (kind, *fields))

    @property
    def kind(self) -> str:
        """The kind's name."""
        return str(self[0])

    @property
    def fields(self) -> tuple[Any, ...]:
        """The fields behind it."""
        return self[1:]


Known: TypeAlias = (
    RunStarted
    | Params
    | Metrics
    | Tags
    | Log
    | Artifact
    | Histogram
    | Dataset
    | Snapshot
    | ModelFingerprint
    | Heartbeat
    | Rewind
    | RunFinished
)
Event: TypeAlias = Known | Unknown


def kind_of(event: Event) -> str:
    """Name the event's kind, as the journal spells it."""
    if isinstance(event, Unknown):
        return event.kind
    return str(event.__struct_config__.tag)
