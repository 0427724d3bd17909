"""Forgetting what a backend has of a run, so that it is delivered from the beginning."""

from __future__ import annotations

from functools import partial

import msgspec

from mlobs.delivery.claim import Claim
from mlobs.delivery.state import STATE_SUFFIX, Record
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder
from mlobs.sender.endings import program_lives

FORGOTTEN_SUFFIX = ".forgotten"  # kept beside: it says what was delivered before, and where

_decode = msgspec.msgpack.Decoder(Record).decode


def forget(folder: RunFolder, backend: str) -> str:
    """Set aside what is known of a backend's share of a run; return what stands in the way, "" if nothing.

    For a backend whose own run was deleted, or that lost it: the next delivery begins anew, with no
    reference. A backend that still has the run stores nothing twice, as it finds the run by its id.
    Repeating it does nothing.

    Raises:
        OSError: the store cannot be written.
    """
    if not folder.delivery.is_dir():
        return ""
    claim = Claim(folder.delivery)
    if not claim.take_over(partial(program_lives, folder)):
        return "its own sender is delivering it right now"
    try:
        for path in folder.delivery.glob(f"*{STATE_SUFFIX}"):
            with Reader(path) as reader:
                is_theirs = any(_names(body, backend) for _, _, body in reader.bodies())
            if is_theirs:  # a lane's file tells of one backend alone
                path.rename(path.with_name(path.name + FORGOTTEN_SUFFIX))
    finally:
        claim.release()
    return ""


def _names(body: bytes, backend: str) -> bool:
    try:
        return bool(_decode(body).backend == backend)
    except msgspec.ValidationError:
        return False  # the vital signs of a sender, or a newer one's kind of record
