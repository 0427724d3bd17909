"""Where files lie in an Azure ML run: artifacts are written once, so a second of a path lies beside it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import msgspec

from mlobs.backends.azureml_errors import Refused
from mlobs.events import Artifact
from mlobs.names import escape_name, unescape_name

OWN = "mlobs/"  # below it lie files of mlobs itself
SHOWN = f"{OWN}azureml/"  # what the portal draws of an artifact, in the portal's own form
DATASETS = f"{OWN}datasets/"
TRACEBACK = f"{OWN}traceback.txt"
MAX_PATH = 1_000  # Azure ML takes 5,000 characters; a blob's name, with the container before it, 1,024
_LEGAL = r"[\w.\- /()=,@+]"  # no character that an address spells in two ways
_VERSION = re.compile(r"~[0-9a-f]{8}(?:-\d+)?(?=(?:\.[^./~]*)?\Z)")
_STEP = re.compile(r"@step(-?\d+)(?=(?:\.[^./]*)?\Z)")  # as at MLflow: `ckpt.step100.pt` is a common name
_MOST_TRIES = 1_000  # of one artifact, each of which failed after it had claimed a path: most of a day
_COMPARED_BYTES = 1 << 20


class Logged(NamedTuple):
    """What a path says about the artifact; `version` is empty for the first of the path."""

    path: str
    step: int | None
    version: str


def stored_path(event: Artifact) -> str:
    """Return where an artifact lies: `a/b.csv` of step 3 at `a/b@step3.csv`."""
    path = escape_name(event.path, _LEGAL, is_path=True, max_length=MAX_PATH)
    path = _STEP.sub(lambda match: f"_x40_{match[0][1:]}", path)  # what looks like a step's mark and is none
    return path if event.step is None else _with_mark(path, f"@step{event.step}")


def is_respelled(event: Artifact) -> bool:
    """Tell whether the path has characters that an artifact's there cannot have as they are."""
    return stored_path(msgspec.structs.replace(event, step=None)) != event.path


def logged(stored: str) -> Logged:
    """Undo `stored_path`, and what made room for a second artifact of the path."""
    version = _VERSION.search(stored)
    if version is not None:
        stored = stored[: version.start()] + stored[version.end() :]
    step = _STEP.search(stored)
    if step is not None:
        stored = stored[: step.start()] + stored[step.end() :]
    return Logged(unescape_name(stored), int(step[1]) if step else None, version[0] if version else "")


def store(
    client: Any, container: str, path: str, digest: str, content: Callable[[], BinaryIO], media_type: str
) -> str:
    """Store content under `path`, or beside it if other content has it; return where it lies.

    `digest` is of the entry's key, 8 hexadecimal digits: the same entry comes to the same place.

    Raises:
        Refused: no path is free, or Azure ML refuses this one.
    """
    for candidate in _candidates(path, digest):
        with content() as source:
            if client.upload(container, candidate, source, media_type):
                return candidate
        if _is_there(client, container, candidate, content):
            return candidate
    raise Refused(f"Azure ML never lets go of a path, and {_MOST_TRIES} of {path!r} stayed empty", None)


def _candidates(path: str, digest: str) -> Iterator[str]:
    yield path
    yield _with_mark(path, f"~{digest}")
    for number in range(2, _MOST_TRIES):
        yield _with_mark(path, f"~{digest}-{number}")


def _with_mark(path: str, mark: str) -> str:
    one = PurePosixPath(path)
    return str(one.with_name(f"{one.stem}{mark}{one.suffix}"))


def _is_there(client: Any, container: str, path: str, content: Callable[[], BinaryIO]) -> bool:
    """Tell whether the artifact has this very content: then it was delivered before."""
    with tempfile.TemporaryFile() as held, content() as wanted:
        if client.download(container, path, held) is None:
            return False  # the path was claimed, and the content never came
        held.seek(0)
        while True:
            one, other = held.read(_COMPARED_BYTES), wanted.read(_COMPARED_BYTES)
            if one != other:
                return False
            if not one:
                return True
