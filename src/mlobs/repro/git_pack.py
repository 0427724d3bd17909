"""What a tree has beyond a commit that others have: searched for secrets, packed, and shown to people."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from mlobs.repro.code_secrets import has_secret_name, holds_secret, redacted
from mlobs.repro.git import ScratchGit
from mlobs.repro.git_index import blob_sizes
from mlobs.repro.git_objects import MODULE

PATCH_BYTES = 256 << 10  # what a person reads; the pack has all
_PATCH_FILES = 300  # a command line has room for
_PORTION_BYTES = 32 << 20  # of content in memory at a time
_NONE = "0" * 40
_FOLDER = "040000"


class Difference(NamedTuple):
    """A file or folder that one tree has otherwise than another; an id of None: it is not there."""

    name: bytes
    mode: str
    old: str | None
    new: str | None

    @property
    def is_file(self) -> bool:
        """Whether the new side is the content of a file or link."""
        return self.new is not None and self.mode not in (MODULE, _FOLDER)


def differences(scratch: ScratchGit, old: str | None, new: str) -> list[Difference]:
    """What a tree has otherwise than another, folders included; without another, all of it."""
    if old is None:
        found = []
        for line in scratch.run("ls-tree", "-r", "-t", "-z", "--full-tree", new).split(b"\0")[:-1]:
            facts, _, name = line.partition(b"\t")
            mode, _kind, oid = facts.decode("ascii").split()
            found.append(Difference(name, mode, None, oid))
        return found
    parts = scratch.run("diff-tree", "-r", "-t", "-z", "--raw", "--no-renames", old, new).split(b"\0")
    return [
        _difference(facts.decode("ascii"), name) for facts, name in zip(parts[::2], parts[1::2], strict=False)
    ]


def _difference(facts: str, name: bytes) -> Difference:
    old_mode, mode, old, new, _status = facts[1:].split()
    is_old_file = old_mode not in (MODULE, _FOLDER) and old != _NONE
    return Difference(name, mode, old if is_old_file else None, None if new == _NONE else new)


def total_bytes(scratch: ScratchGit, found: Iterable[Difference]) -> int:
    """The size of all new contents, unpacked."""
    blobs = [one.new for one in found if one.is_file and one.new]
    sizes = blob_sizes(scratch, blobs)
    return sum(sizes.get(blob, 0) for blob in blobs)


def names_with_secrets(scratch: ScratchGit, found: Iterable[Difference]) -> dict[bytes, bool]:
    """The files that must not be packed; the value says whether already the name says so.

    What is searched are the very bytes that would be packed: a file that is written to meanwhile
    cannot slip through.
    """
    names: dict[str, list[bytes]] = {}
    secret: dict[bytes, bool] = {}
    for one in found:
        if one.is_file and one.new and has_secret_name(one.name):
            secret[one.name] = True
        elif one.is_file and one.new:
            names.setdefault(one.new, []).append(one.name)
    for blob, content in contents(scratch, names):
        secret |= {name: False for name in names[blob] if holds_secret(content, name)}
    return secret


def contents(scratch: ScratchGit, blobs: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The content of each object that is there, a portion of them in memory at a time."""
    portion: list[str] = []
    room = _PORTION_BYTES
    for blob, size in blob_sizes(scratch, blobs).items():
        if portion and size > room:
            yield from _portion(scratch, portion)
            portion, room = [], _PORTION_BYTES
        portion.append(blob)
        room -= size
    if portion:
        yield from _portion(scratch, portion)


def _portion(scratch: ScratchGit, blobs: list[str]) -> Iterator[tuple[str, bytes]]:
    asked = "".join(f"{blob}\n" for blob in blobs).encode("ascii")
    out = scratch.run("cat-file", "--batch=%(objectname) %(objectsize)", "--buffer", content=asked)
    position = 0
    for blob in blobs:
        end = out.index(b"\n", position)
        size = int(out[position:end].split()[1])
        yield blob, out[end + 1 : end + 1 + size]
        position = end + 1 + size + 1


def write_pack(
    scratch: ScratchGit, tree: str, base: str | None, found: Iterable[Difference], path: Path
) -> int:
    """Pack a tree and what it has beyond its base; return the size in bytes.

    The objects are named one by one, so no history is walked: a shallow or partial clone is as good as any.
    """
    lines = [f"-{base}\n".encode("ascii")] if base else []
    lines.append(f"{tree}\n".encode("ascii"))
    for one in found:
        if one.new and one.mode != MODULE:
            hint = one.name.replace(b"\n", b"?")  # a name only helps to find what is alike
            lines.append(one.new.encode("ascii") + b" " + hint + b"\n")
    arguments = ("pack-objects", "-q", "--stdout", "--delta-base-offset", "--threads=1")
    content = scratch.run(*arguments, content=b"".join(lines))
    path.write_bytes(content)
    return len(content)


def readable_patch(scratch: ScratchGit, old: str, new: str, found: Iterable[Difference]) -> str | None:
    """The difference of two trees as text, without secrets, at most 256 KiB; None if there is none.

    Large files, and those that have or had a secret in them, are not in it.
    """
    files = [one for one in found if one.is_file or one.old]
    blobs = {oid for one in files for oid in (one.old, one.new) if oid}
    small = {oid for oid, size in blob_sizes(scratch, blobs).items() if size <= PATCH_BYTES}
    old_blobs = {one.old for one in files if one.old in small}
    spoiled = {
        oid for oid, content in contents(scratch, (oid for oid in old_blobs if oid)) if holds_secret(content)
    }
    fine = small - spoiled | {None}
    names = [
        one.name for one in files if one.old in fine and one.new in fine and not has_secret_name(one.name)
    ]
    if not names:
        return None
    arguments = (
        "diff-tree",
        "-r",
        "-p",
        "--no-ext-diff",
        "--no-textconv",
        "--no-renames",
        "--ignore-cr-at-eol",
        old,
    )
    paths = [os.fsdecode(name) for name in sorted(names)[:_PATCH_FILES]]
    out = scratch.run("--literal-pathspecs", *arguments, new, "--", *paths)
    text = redacted(out[:PATCH_BYTES].decode("utf-8", "replace"))
    is_cut = len(out) > PATCH_BYTES or len(names) > _PATCH_FILES
    return text.rpartition("\n")[0] + "\n(cut: the pack has all of it)\n" if is_cut else text or None
