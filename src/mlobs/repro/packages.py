"""The installed distributions, each with a digest of what its wheel put there.

`RECORD` lists the files of an installed wheel with their hashes (the specification "Recording installed
projects" of packaging.python.org). Installers add lines of their own to it; without these, the same
wheel has the same lines wherever and by whatever it was installed.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

import msgspec

from mlobs.secrets import masked

_INSTALLERS_OWN = frozenset(
    {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
)
_COLUMNS = 3  # path, hash, size
_NAME = re.compile(r"^Name:\s*(.+?)\s*$", re.MULTILINE)
_VERSION = re.compile(r"^Version:\s*(.+?)\s*$", re.MULTILINE)
_SITE = frozenset({"site-packages", "dist-packages"})
_CONDA = "conda"  # it leaves the folder of its build machine as the source
_SSH_USER = "git"  # names no person, and the address does not work without it


class Package(msgspec.Struct, frozen=True):
    """One distribution.

    `name` is normalised (PEP 503). `record_digest` is None where there is no RECORD: eggs, and what a
    system's or conda's own packager installed. `source` is what it was installed from if that was no
    index, without secrets; `root` the folder of its source code if that was a local folder.
    """

    name: str
    version: str
    record_digest: str | None = None
    source: str | None = None
    is_editable: bool = False
    installer: str | None = None
    root: str | None = None


class Recorded(NamedTuple):
    """One line of a RECORD: a path relative to the folder of the packages, `sha256=...`, bytes as text."""

    path: str
    hash: str
    size: str


def installed(sys_path: Sequence[str] | None = None) -> tuple[Package, ...]:
    """List the distributions that `sys_path` finds (default: this interpreter's), sorted by name."""
    return tuple(_package(name, found) for name, found in sorted(distributions(sys_path).items()))


def distributions(sys_path: Sequence[str] | None = None) -> dict[str, metadata.Distribution]:
    """Find the distributions by normalised name. Of two with one name, the first on the path counts."""
    found: dict[str, metadata.Distribution] = {}
    places = metadata.distributions() if sys_path is None else metadata.distributions(path=list(sys_path))
    for one in places:
        name = _header(one, _NAME)
        if name is not None:  # a folder without metadata is left of a broken uninstall
            found.setdefault(normalised(name), one)
    return found


def normalised(name: str) -> str:
    """The name as PEP 503 compares it: `Ruamel.YAML` is `ruamel-yaml`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def record_digest(record: str) -> str:
    """Digest a RECORD's text: BLAKE3, in 64 hexadecimal digits, over what the wheel brought.

    Left out is what differs from one installation to the next: compiled `.pyc` files, the installer's
    own files, and all that lies outside the folder of the packages (scripts name their interpreter).
    """
    from blake3 import blake3

    lines = sorted(f"{path},{hash_}\n" for path, hash_, _ in recorded_files(record) if _is_wheels(path))
    return blake3("".join(lines).encode()).hexdigest()


def recorded_files(record: str) -> Iterator[Recorded]:
    """Yield the files that a RECORD lists, with `/` in their paths."""
    for line in record.splitlines():
        row = next(csv.reader([line])) if '"' in line else line.rsplit(",", _COLUMNS - 1)
        if len(row) == _COLUMNS:
            yield Recorded(row[0].replace("\\", "/"), row[1], row[2])


def without_secrets(url: str) -> str:
    """The URL without user and password, and without what looks like a secret in the rest of it."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a text that only looks like a URL
        return masked(url)
    user, _, host = parts.netloc.rpartition("@")
    public = masked(urlunsplit(parts._replace(netloc=host)))
    is_ssh = user == _SSH_USER and parts.scheme.endswith("ssh")
    return public.replace("://", f"://{user}@", 1) if is_ssh else public


def _package(name: str, found: metadata.Distribution) -> Package:
    record = found.read_text("RECORD")
    installer = (found.read_text("INSTALLER") or "").strip() or None
    direct = {} if installer == _CONDA else _direct_url(found)
    root = _root(direct) or _developed_at(found)
    return Package(
        name=name,
        version=_header(found, _VERSION) or "unknown",
        record_digest=record_digest(record) if record else None,
        source=_source(direct) if direct else None,
        is_editable=bool(direct.get("dir_info", {}).get("editable")) or _developed_at(found) is not None,
        installer=installer,
        root=root,
    )


def _header(found: metadata.Distribution, field: re.Pattern[str]) -> str | None:
    """A field of the metadata. Parsing all of it, descriptions too, takes most of the time otherwise."""
    text = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
    match = field.search(text.split("\n\n", 1)[0])
    return match[1] if match else None


def _direct_url(found: metadata.Distribution) -> dict[str, Any]:
    text = found.read_text("direct_url.json")
    if text is None:
        return {}
    try:
        direct = json.loads(text)
    except ValueError:  # written by hand, or cut off: as good as none
        return {}
    return direct if isinstance(direct, dict) and isinstance(direct.get("url"), str) else {}


def _source(direct: dict[str, Any]) -> str:
    """As pip takes it: `git+https://host/repo@commit`, or the URL of an archive or a folder."""
    url = without_secrets(direct["url"])
    vcs = direct.get("vcs_info")
    if vcs:
        url = f"{vcs.get('vcs', 'git')}+{url}@{vcs.get('commit_id', '')}"
    if direct.get("subdirectory"):
        url += f"#subdirectory={direct['subdirectory']}"
    return url


def _root(direct: dict[str, Any]) -> str | None:
    if "dir_info" not in direct:
        return None
    parts = urlsplit(direct["url"])
    return url2pathname(f"//{parts.netloc}{parts.path}" if parts.netloc else parts.path)


def _developed_at(found: metadata.Distribution) -> str | None:
    """The folder of the sources whose `.egg-info` lies beside them: `setup.py develop`, or a path entry."""
    place = Path(str(found.locate_file("")))
    is_egg = found.read_text("PKG-INFO") is not None and found.read_text("METADATA") is None
    return str(place) if is_egg and not _SITE & set(place.parts) else None


def _is_wheels(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    if path.startswith(("../", "/")) or path[1:2] == ":" or name.endswith(".pyc"):
        return False
    return not (folder.endswith(".dist-info") and "/" not in folder and name in _INSTALLERS_OWN)


def pinned(packages: Iterable[Package]) -> list[str]:
    """The packages as the environment's digest takes them: `name==version==record digest`, sorted.

    Those installed in editable mode are left out: they are code, which the code's snapshot holds.
    """
    return sorted(
        f"{one.name}=={one.version}=={one.record_digest or ''}" for one in packages if not one.is_editable
    )
