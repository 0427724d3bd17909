"""What a fingerprint is: a digest that names its own scheme, how much it proves, and its parts."""

from __future__ import annotations

import msgspec

from mlobs.events import Strength


class Column(msgspec.Struct, frozen=True):
    """A column of a table, or a part of a set: its name, its canonical type, its own digest in hex."""

    name: str
    tag: str
    digest: str


class Fingerprint(msgspec.Struct, frozen=True):
    """The identity of data. Two are of the same data if their `text` is equal.

    `text` is the scheme and what it gave: "tfp1:" tables, "afp1:" arrays, "set1:" several of them,
    "rows1:" rows in any order, "b3:" one file, "tree1:" a folder, "pin:" a version that a storage keeps,
    "stat1:" a sample or sizes and times, "name:" the name alone.

    `strength` says what equality proves: "content" every value and its place, "rows" every row in
    whatever order, "pinned" the same version of a storage, "stat" that nothing looks changed, "name" nothing.

    `files` maps relative POSIX paths to digests. `notes` is for people: original dtypes, what was left out.
    """

    text: str
    strength: Strength
    rows: int | None = None
    size_bytes: int | None = None
    columns: tuple[Column, ...] = ()
    files: dict[str, str] = {}
    notes: dict[str, str] = {}

    @property
    def scheme(self) -> str:
        """The word before the colon: "tfp1", "tree1", ..."""
        return self.text.partition(":")[0]
