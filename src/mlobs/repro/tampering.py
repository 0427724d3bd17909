"""Whether the files of the installed packages are still those that were installed.

An edit in `site-packages` is in no version and in no lock file. With uv's hard links it even appears in
every environment that shares its cache.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
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

    That takes seconds for a usual environment. Files added by hand are not seen, and neither are compiled
    `.pyc` files, of which nobody recorded a hash. A file that several packages brought, such as the
    `__init__.py` of a namespace, is as it should be if one of them brought it like this.

    Args:
        packages: names; default: all that are installed with a RECORD.
        sys_path: where they are looked for; default: `sys.path`.
    """
    wanted = None if packages is None else {normalised(name) for name in packages}
    tampered: list[Tampered] = []
    for path, owners in _owners(distributions(sys_path)).items():
        if wanted is None or wanted & owners.keys():
            reasons = {name: _difference(path, one) for name, one in owners.items()}
            if all(reasons.values()):
                tampered += [Tampered(name, path, reason) for name, reason in reasons.items() if reason]
    return [one for one in sorted(tampered) if wanted is None or one.package in wanted]


def _owners(found: Mapping[str, metadata.Distribution]) -> dict[Path, dict[str, Recorded]]:
    """The files that have a recorded hash, each with what its packages recorded of it."""
    owners: dict[Path, dict[str, Recorded]] = {}
    for name, distribution in found.items():
        folder = os.path.abspath(str(distribution.locate_file("")))  # noqa: PTH100 - it resolves no links
        for one in recorded_files(distribution.read_text("RECORD") or ""):
            if one.hash:
                path = Path(os.path.normpath(os.path.join(folder, one.path)))  # noqa: PTH118 - 60,000 files
                owners.setdefault(path, {})[name] = one
    return owners


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
