"""What the training process tells its sender over the life line, in lines.

A line is MessagePack in Base64: unlike JSON it keeps bytes and infinities what they are, and a line
that was cut off by the trainer's death has no end of line.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from mlobs.events import BackendSpec, Process


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first line: who the trainer is, and how the sender behaves."""

    trainer: Process
    sender_id: str
    linger_s: float
    sys_path: tuple[bytes, ...] = ()
    hang_timeout_s: float = 300.0


class OpenRun(msgspec.Struct, frozen=True, tag="open"):
    """Deliver this run to these backends; `folder` is the run's folder, absolute.

    Paths travel as `os.fsencode` gives them: a name on the disk need not be UTF-8. The program's load
    is recorded into the run every `sample_every_s` seconds, None: never. `repro` says what is captured of
    its code and environment, as the setting does.
    """

    folder: bytes
    backends: tuple[BackendSpec, ...]
    sample_every_s: float | None = None
    repro: str = "off"


class RunEnded(msgspec.Struct, frozen=True, tag="ended"):
    """The end of this run is recorded: nothing more comes from the program."""

    folder: bytes


class Flush(msgspec.Struct, frozen=True, tag="flush"):
    """Somebody waits: send what there is, without gathering larger batches."""


Order: TypeAlias = Hello | OpenRun | RunEnded | Flush

_decode: Callable[[bytes], Order] = msgspec.msgpack.Decoder(Order).decode


def to_line(order: Order) -> bytes:
    """Encode an order as one line."""
    return base64.b64encode(msgspec.msgpack.encode(order)) + b"\n"


def from_line(line: bytes) -> Order:
    """Decode one line.

    Raises:
        ValueError: it is no order.
    """
    try:
        return _decode(base64.b64decode(line))
    except msgspec.MsgspecError as error:
        raise ValueError(f"{line[:80]!r} is no order: {error}") from error


def key_of(spec: BackendSpec) -> str:
    """Tell backends apart: the same key is the same type with the same parameters."""
    return msgspec.msgpack.encode(spec).hex()
