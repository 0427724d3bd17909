"""Whether the files of the installed packages are still those that were installed.

An edit in `site-packages` is in no version and in no lock file. With uv's hard links it even appears in
every environment that shares its cache.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from mlobs.repro.packages import Recorded, distributions, normalised, recorded_files

_CHUNK_BYTES = 1 << 20  # libraries of GPUs have hundreds of MB


class Tampered(NamedTuple):
    """A file that is not as its package's RECORD says. `reason` is "changed", "absent", or why not known."""

    package: str
    path: Path
    reason: str


def verify_files(
    packages: Collection[str] | None = None, *, sys_path: Sequence[str] | None = None
) -> list[Tampered]:
    """Hash all files of the installed packages and return those that differ from what was installed.

    About 200 MB/s of files, so some seconds for a usual environment. Files added by hand are not seen,
    and neither are compiled `.pyc` files, of which nobody recorded a hash.

    Args:
        packages: names; default: all that are installed with a RECORD.
        sys_path: where they are looked for; default: `sys.path`.
    """
    wanted = None if packages is None else {normalised(name) for name in packages}
    found = distributions(sys_path)
    return [
        one
        for name in sorted(found)
        if wanted is None or name in wanted
        for one in _of_package(name, found[name])
    ]


def _of_package(name: str, found: metadata.Distribution) -> Iterator[Tampered]:
    for one in recorded_files(found.read_text("RECORD") or ""):
        path = Path(str(found.locate_file(one.path)))
        reason = _difference(path, one) if one.hash else None
        if reason is not None:
            yield Tampered(name, path, reason)


def _difference(path: Path, recorded: Recorded) -> str | None:
    algorithm, _, expected = recorded.hash.partition("=")
    try:
        if recorded.size and path.stat().st_size != int(recorded.size):
            return "changed"
        digest = _digest(path, algorithm)
    except FileNotFoundError:
        return "absent"
    except (OSError, ValueError) as error:
        return f"not verified: {error}"
    return None if digest == expected else "changed"


def _digest(path: Path, algorithm: str) -> str:
    """The file's digest as a RECORD writes it: URL-safe Base64 without padding."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
