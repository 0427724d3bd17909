"""What the training process tells its sender, a line of JSON each, over the life line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from mlobs.events import BackendSpec, Process


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first line: who the trainer is, and how the sender behaves."""

    trainer: Process
    sender_id: str
    linger_s: float
    sys_path: tuple[str, ...] = ()


class OpenRun(msgspec.Struct, frozen=True, tag="open"):
    """Deliver this run to these backends; `folder` is the run's folder, absolute."""

    folder: str
    backends: tuple[BackendSpec, ...]


class Flush(msgspec.Struct, frozen=True, tag="flush"):
    """Somebody waits: send what there is, without gathering larger batches."""


Order: TypeAlias = Hello | OpenRun | Flush

_decode: Callable[[bytes], Order] = msgspec.json.Decoder(Order).decode


def to_line(order: Order) -> bytes:
    """Encode an order as one line."""
    return msgspec.json.encode(order) + b"\n"


def from_line(line: bytes) -> Order:
    """Decode one line."""
    return _decode(line)
