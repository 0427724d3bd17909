"""Git's names of contents and folders, computed here: no object is written where the user keeps theirs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeAlias

FILE, EXECUTABLE, LINK, MODULE = "100644", "100755", "120000", "160000"
Ids: TypeAlias = Mapping[bytes, tuple[str, str]]  # git's mode and id, by name


def blob_id(content: bytes) -> str:
    """The id that git gives a content."""
    return object_id("blob", content)


def tree_id(files: Ids) -> str:
    """The id that git gives the folder with these files; one of mode 160000 is a submodule."""
    return build_trees(files, {})


def build_trees(files: Ids, built: dict[str, bytes]) -> str:
    """Return the id of the folder with these files, and put all folders into `built` as git stores them."""
    entries: dict[bytes, bytes] = {}  # by what git sorts by: the name of a folder ends in "/" there
    folders: dict[bytes, dict[bytes, tuple[str, str]]] = {}
    for name, (mode, oid) in files.items():
        first, slash, rest = name.partition(b"/")
        if slash:
            folders.setdefault(first, {})[rest] = (mode, oid)
        else:
            entries[name] = mode.encode("ascii") + b" " + name + b"\0" + bytes.fromhex(oid)
    for name, inside in folders.items():
        entries[name + b"/"] = b"40000 " + name + b"\0" + bytes.fromhex(build_trees(inside, built))
    body = b"".join(entries[key] for key in sorted(entries))
    oid = object_id("tree", body)
    built[oid] = body
    return oid


def object_id(kind: str, body: bytes) -> str:
    """The id of an object of git: the SHA-1 of its kind, size and body."""
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), len(body)) + body, usedforsecurity=False).hexdigest()
